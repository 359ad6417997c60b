import { expect, test } from 'vitest';
import type { Parts } from '../../../src/manager/parts.ts';
import { keepRounds } from '../../../src/manager/rounds.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { EMPTY_VIEW } from '../../fakes/records.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('rounds go on beside each other whatever fails or waits, and end with what they have begun', async () => {
  const begun = new Map<string, number>();
  const idle: string[] = [];
  const logged: string[] = [];
  const part = (name: string, work: () => Promise<void> = async () => {}) => ({
    round: () => {
      begun.set(name, (begun.get(name) ?? 0) + 1);
      return work();
    },
    idle: async () => void idle.push(name),
  });
  const fails = async () => {
    throw new Error('no');
  };
  const parts = {
    membership: { tellOfSilence: async () => {}, forgetUnjoined: async () => {} },
    // A server that does not answer.
    reconciler: part('reconciler', () => new Promise(() => {})),
    outageWatch: part('outageWatch', fails),
    runner: { quorums: part('quorums') },
    load: { measure: () => {}, measurements: part('measurements') },
    walKeeper: part('wal'),
    streamKeeper: part('streams'),
    applyKeeper: part('apply'),
    history: part('history'),
    storeWatch: part('store'),
    roleKeeper: part('roles', fails),
  } as unknown as Parts;
  let inform = () => {};
  const informed = new Promise<void>((resolve) => {
    inform = resolve;
  });
  const clock = new ManualClock();
  const ending = new AbortController();
  void keepRounds(parts, {
    view: () => EMPTY_VIEW,
    informed,
    clock,
    signal: ending.signal,
    log: (level, message, facts) => logged.push(`${level} ${message} ${JSON.stringify(facts)}`),
  });
  const pass = async (ms: number) => {
    const untilMs = clock.nowMs() + ms;
    for (await turn(); clock.nowMs() < untilMs && clock.advance(); await turn());
  };
  await turn();
  expect([...begun]).toEqual([['reconciler', 1]]);
  inform();
  await pass(3_000);
  expect(begun.get('reconciler')).toBe(1);
  for (const [name, times] of Object.entries({ outageWatch: 20, quorums: 10, streams: 3, store: 3, roles: 3 }))
    expect(begun.get(name), name).toBeGreaterThanOrEqual(times);
  expect(new Set(logged)).toEqual(
    new Set(['error watch failed {"error":"no"}', 'warn roles are as they were {"error":"no"}']),
  );
  const before = begun.get('quorums');
  ending.abort();
  await pass(2_000);
  expect(begun.get('quorums')).toBe(before);
  expect(idle.sort()).toEqual(['apply', 'history', 'measurements', 'quorums', 'roles', 'streams', 'wal']);
});
