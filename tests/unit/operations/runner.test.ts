import { expect, test } from 'vitest';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { Journal } from '../../../src/operations/journal.ts';
import { DONE, nothingToUndo, operationKind } from '../../../src/operations/operation.ts';
import { Runner } from '../../../src/operations/runner.ts';
import type { RunnerPorts } from '../../../src/operations/runner-ports.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

test('a manager that takes up the journal leaves alone what has been submitted to it meanwhile', async () => {
  const clock = new ManualClock();
  const runs: string[] = [];
  const step = (name: string) => ({
    name,
    done: async () => false,
    run: async () => {
      runs.push(name);
      await clock.sleep(100);
      return DONE;
    },
    undo: nothingToUndo('it only sleeps'),
  });
  const kind = operationKind<object>({
    kind: 'sleep',
    subject: () => 'nothing',
    locks: () => [],
    movesOn: () => [],
    steps: [step('one'), step('two'), step('three')],
  });
  const ports = {
    clock,
    event: async () => {},
    log: () => {},
    view: () => ({ settings: defaultSettings() }),
  } as unknown as RunnerPorts;
  const runner = new Runner(await Journal.open(new MemoryStore()), new Map([['sleep', kind]]), ports);
  const { id } = await runner.submit('sleep', {});
  runner.resume();
  await clock.during(clock.sleep(1_000));
  expect(runner.get(id)?.status).toBe('done');
  expect(runs).toEqual(['one', 'two', 'three']);
});

test('operations that are admitted at the same moment keep to the limit of a node', async () => {
  const placement = Array.from({ length: 4 }, () => [1, 2]);
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, placement)]);
  const limit = world.view.settings['move.concurrency_per_node'];
  for (let pid = 0; pid < 4; pid++) void world.runner.submit('add-replica', { tid: 1, pid, to: 4 });
  let most = 0;
  await world.until(() => {
    const running = world.runner.unended().filter((r) => r.status !== 'queued');
    most = Math.max(most, running.length);
    return world.runner.all().length === 4 && world.allEnded();
  });
  expect(world.runner.all().map((r) => r.status)).toEqual(['done', 'done', 'done', 'done']);
  expect(most).toBe(limit);
});
