import fc from 'fast-check';
import { expect, test } from 'vitest';
import { tideError } from '../../../src/core/errors.ts';
import type { OperationRecord } from '../../../src/operations/operation.ts';
import { OPERATION_KINDS } from '../../../src/operations/registry.ts';
import { faultsOf, placementOf } from '../../fakes/cleanliness.ts';
import type { Fault, World } from '../../fakes/world.ts';
import { SCENARIOS, type Scenario } from './support/scenarios.ts';

/**
 * Every kind of operation is disturbed at every single change it makes, on a server or in the store: the
 * change fails, its answer is lost, the manager dies after it, somebody cancels at that moment. Whatever
 * happens, the operation ends done or undone, and nothing is left over. The list of changes is what an
 * undisturbed run does, so that a new step is disturbed the day it is written.
 */
test('every kind of operation has a scenario', () => {
  expect([...OPERATION_KINDS.keys()].filter((kind) => !SCENARIOS.some((s) => s.kind === kind))).toEqual([]);
});

const MODES: readonly Fault['mode'][] = ['fails', 'refused', 'answer-lost', 'manager-killed', 'cancelled'];

for (const scenario of SCENARIOS) {
  test(`${scenario.name}: undisturbed, it is done and clean`, async () => {
    const world = await scenario.world();
    const record = await world.run(scenario.kind, scenario.input);
    expect(record.status, world.errors.join('\n')).toBe('done');
    expect(faultsOf(world)).toEqual([]);
  });

  for (const mode of scenario.modes ?? MODES) {
    test(`${scenario.name}: ${mode} at every change`, async () => {
      const changes = await changesOf(scenario);
      const bad: string[] = [];
      for (let at = 1; at <= changes; at++) bad.push(...(await disturb(scenario, { at, mode })));
      expect(bad).toEqual([]);
    });
  }

  test(`${scenario.name}: cancelled after every step, before that is written`, async () => {
    const bad: string[] = [];
    for (const step of stepsOf(scenario).keys()) bad.push(...(await cancelUnwritten(scenario, step)));
    expect(bad).toEqual([]);
  });

  test(`${scenario.name}: two faults at random, as a kill while it is undone`, async () => {
    const changes = await changesOf(scenario);
    const mode = fc.constantFrom(...MODES);
    const at = fc.integer({ min: 1, max: changes });
    const after = fc.integer({ min: 1, max: 30 });
    await fc.assert(
      fc.asyncProperty(at, mode, after, mode, async (first, modeFirst, later, modeSecond) => {
        const next: Fault = { at: first + later, mode: modeSecond };
        expect(await disturb(scenario, { at: first, mode: modeFirst, next })).toEqual([]);
      }),
      // The same pairs in every run of the suite; others, and more, where somebody looks for defects.
      { numRuns: Number(process.env.FAULT_RUNS ?? 15), seed: Number(process.env.FAULT_SEED ?? 1) },
    );
  });
}

async function changesOf(scenario: Scenario): Promise<number> {
  const world = await scenario.world();
  await world.run(scenario.kind, scenario.input);
  return world.changes().length;
}

const stepsOf = ({ kind }: Scenario) => OPERATION_KINDS.get(kind)?.steps ?? [];

/** What is wrong after an operation that met the fault; empty if nothing is. */
async function disturb(scenario: Scenario, fault: Fault): Promise<string[]> {
  const world = await scenario.world();
  const where = () => `${fault.mode} at ${fault.at} (${world.changes()[fault.at - 1]})`;
  return judge(scenario, world, where, () => world.run(scenario.kind, scenario.input, fault));
}

/**
 * The store has no room for the record of the step, and somebody cancels before it has: the undo begins with
 * that very step.
 */
async function cancelUnwritten(scenario: Scenario, step: number): Promise<string[]> {
  const world = await scenario.world();
  const { store } = world;
  const txn = store.txn.bind(store);
  let isRefused = false;
  store.txn = async (request) => {
    const record = request.write.flatMap((w) =>
      'put' in w && w.put.startsWith('/op/') ? [w.value as OperationRecord] : [],
    )[0];
    const from = record && world.runner.get(record.id);
    const isIt = record?.kind === scenario.kind && from?.status === 'running' && from.step === step;
    if (isRefused || !isIt || record.step !== step + 1) return txn(request);
    isRefused = true;
    setImmediate(() => void world.runner.cancel(record.id).catch(() => {}));
    throw tideError('META_FULL', { why: 'refused' });
  };
  const where = () => `cancelled after ${stepsOf(scenario)[step]?.name}`;
  const wrong = await judge(scenario, world, where, () => world.run(scenario.kind, scenario.input));
  return isRefused ? wrong : [...wrong, `${where()}: it was not`];
}

async function judge(
  scenario: Scenario,
  world: World,
  where: () => string,
  run: () => Promise<OperationRecord>,
): Promise<string[]> {
  const before = placementOf(world);
  try {
    const record = await run();
    const faults = faultsOf(world);
    if (record.status !== 'done' && scenario.undoneDiffers === undefined) {
      const after = placementOf(world);
      if (JSON.stringify(after) !== JSON.stringify(before))
        faults.push(`it is ${record.status}, but not as before: ${JSON.stringify(after)}`);
    }
    return faults.map((f) => `${where()}, ${record.status}: ${f}`);
  } catch (error) {
    return [`${where()}: ${error instanceof Error ? error.message : error}`];
  }
}
