import { tmpdir } from 'node:os';
import { afterEach, expect, test, vi } from 'vitest';
import type { BeatAnswer } from '../../../src/api/membership.ts';
import { Heartbeat, type HeartbeatOptions } from '../../../src/node/heartbeat.ts';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';

afterEach(() => void vi.restoreAllMocks());

/** What a node acts on, where each answer of the manager has been under way for so long. */
async function actedOn(...answersMs: number[]): Promise<string[]> {
  const acted: string[] = [];
  const real = performance.now.bind(performance);
  let stoodStillMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => real() + stoodStillMs);
  let asked = 0;
  const beat = async (): Promise<BeatAnswer> => {
    stoodStillMs += answersMs[asked] ?? 0;
    asked += 1;
    return { fence: 'down', manager: `answer ${asked}` } as BeatAnswer;
  };
  const options: Partial<HeartbeatOptions> = {
    nodeId: 1,
    clusterId: 'c',
    store: tmpdir(),
    // Nothing listens there: its PostgreSQL does not run.
    server: { port: 1, processId: null, fenced: true },
    applyErrors: { look: async () => [] },
    start: 's1',
    managedBy: () => null,
    manager: () => ({ beat }) as unknown as ManagerHandle,
    seekManager: async () => {},
    leased: () => true,
    onAnswer: ({ manager }) => void acted.push(manager),
    log: () => {},
  };
  const heartbeat = new Heartbeat(options as HeartbeatOptions);
  heartbeat.start();
  await expect.poll(() => asked, { timeout: 20_000 }).toBe(answersMs.length);
  await heartbeat.end();
  return acted;
}

test('an answer that has been under way for longer than 2 s lets nobody in', async () => {
  expect(await actedOn(0, 2_100, 0)).toEqual(['answer 1', 'answer 3']);
});
