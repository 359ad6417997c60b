import { expect, test } from 'vitest';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { toldPlane } from '../../../src/operations/asking.ts';
import { Journal } from '../../../src/operations/journal.ts';
import { DONE, nothingToUndo, operationKind } from '../../../src/operations/operation.ts';
import type { DataPlane } from '../../../src/operations/ports.ts';
import type { Question } from '../../../src/operations/progress.ts';
import { Runner } from '../../../src/operations/runner.ts';
import type { RunnerPorts } from '../../../src/operations/runner-ports.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { World } from '../../fakes/world.ts';

/** What an operation has asked of a server, and has no answer to. */

/** An operation whose one step drops a replica on node 3, which answers after `answerMs`. */
async function begin(answerMs: number) {
  const clock = new ManualClock();
  const kind = operationKind<object>({
    kind: 'ask',
    subject: () => 'node 3',
    locks: () => [],
    movesOn: () => [],
    steps: [
      {
        name: 'drop',
        done: async () => false,
        run: async (c) => {
          await c.plane.replicas.drop(3, { tid: 1, pid: 0 });
          await c.clock.sleep(20_000);
          return DONE;
        },
        undo: nothingToUndo('it only asks'),
      },
    ],
  });
  const plane = { replicas: { drop: () => clock.sleep(answerMs) } } as unknown as DataPlane;
  const ports = {
    clock,
    plane,
    event: async () => {},
    log: () => {},
    view: () => ({ settings: defaultSettings() }),
  } as unknown as RunnerPorts;
  const runner = new Runner(await Journal.open(new MemoryStore()), new Map([['ask', kind]]), ports);
  const { id } = await runner.submit('ask', {});
  return {
    waitsFor: () => runner.live(id)?.waitsFor,
    seconds: (s: number) => clock.during(clock.sleep(1_000 * s)),
  };
}

test('an operation says which answer it waits for, from when it is due until it comes', async () => {
  const { waitsFor, seconds } = await begin(10_000);
  await seconds(2);
  expect(waitsFor()).toBeNull();
  await seconds(3);
  expect(waitsFor()).toMatchObject({
    kind: 'node',
    text: 'an answer of node 3 (replicas: drop)',
    node: 3,
    ageSeconds: 5,
  });
  await seconds(6);
  expect(waitsFor()).toBeNull();
});

test('an answer that comes soon is nothing to wait for', async () => {
  const { waitsFor, seconds } = await begin(1_000);
  await seconds(5);
  expect(waitsFor()).toBeNull();
});

test('every call is told with the nodes that it is about, and passed on as it is', async () => {
  const world = await World.settled([1, 2]);
  const told: Question[] = [];
  const plane = toldPlane(world.plane(), (question, ask) => {
    told.push(question);
    return ask();
  });
  await plane.streams.connect(1, 2, () => false);
  expect(await plane.streams.exists(1, 2)).toBe(true);
  await plane.hinges.ensureForeignServer(2, 1);
  expect(await plane.replicas.list(2)).toEqual([]);
  expect(told).toEqual([
    { what: 'streams: connect', nodes: [1, 2] },
    { what: 'streams: exists', nodes: [1, 2] },
    { what: 'hinges: ensure foreign server', nodes: [2, 1] },
    { what: 'replicas: list', nodes: [2] },
  ]);
});

test('what a call throws comes as it is', async () => {
  const world = await World.settled([1, 2]);
  world.cluster.at(2).alive = false;
  const plane = toldPlane(world.plane(), (_question, ask) => ask());
  await expect(plane.replicas.list(2)).rejects.toMatchObject({ code: 'NODE_UNREACHABLE' });
});
