import { expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import type { DataPlane } from '../../src/operations/ports.ts';
import { ALL_EVENTS, scriptOf } from './support/script.ts';
import { shrink } from './support/shrink.ts';
import { simulate } from './support/simulate.ts';
import { HOURS } from './support/sweep.ts';
import { eachNoun } from './support/wire.ts';
import type { SimWorld } from './support/world.ts';

test('the same seed is the same run, another seed is another', async () => {
  const seeds = [3, 4, 5, 6];
  const hash = async (seed: number) => (await simulate(scriptOf(seed, HOURS))).hash;
  const once: string[] = [];
  const again: string[] = [];
  for (const seed of seeds) once.push(await hash(seed));
  for (const seed of seeds) again.push(await hash(seed));
  expect(again).toEqual(once);
  expect(new Set(once).size).toBe(seeds.length);
});

test('everything that can happen happens in some script', () => {
  const happens = new Set(
    Array.from({ length: 300 }, (_, seed) => scriptOf(seed, HOURS).events.map((e) => e.what)).flat(),
  );
  expect([...happens].sort()).toEqual([...ALL_EVENTS].sort());
});

/**
 * Defects as somebody might make them, and what the simulator says of them. `from`: where to look first for
 * what few seeds find.
 */
type Planted = { [Noun in keyof DataPlane]?: Partial<DataPlane[Noun]> };
const PLANTED: Record<string, { plant: (plane: DataPlane) => Planted; found: RegExp; from?: number }> = {
  'the least advanced follower leads': {
    plant: ({ streams }) => ({
      streams: {
        cut: async (from, to) => {
          const position = await streams.cut(from, to);
          return position === null ? null : -position;
        },
      },
    }),
    found: /acknowledged rows/,
    from: 51,
  },
  'commits wait for nobody': {
    plant: () => ({ quorum: { set: async () => {} } }),
    found: /acknowledged rows|commits at/,
  },
  'a replica that is removed stays in the streams': {
    plant: () => ({ streams: { stop: async () => {}, stopSending: async () => {} } }),
    found: /whose table is gone there|leftover|still on their way|rows that are there/,
  },
  'a new leader stays guarded': {
    plant: ({ replicas }) => ({
      replicas: { setGuard: async (node, ref, on) => (on ? replicas.setGuard(node, ref, on) : undefined) },
    }),
    found: /is not the leader|leads and is guarded/,
  },
  'a marker never arrives': {
    plant: () => ({ markers: { arrives: async () => false } }),
    found: /there is no rest/,
  },
  'a marker has always arrived': {
    plant: () => ({ markers: { arrives: async () => true } }),
    found: /whose table is gone there|acknowledged rows/,
  },
  'a swing waits for no follower': {
    plant: ({ hinges }) => ({
      hinges: { swing: (source, ref, swing) => hinges.swing(source, ref, { ...swing, followers: [] }) },
    }),
    found: /acknowledged rows/,
    from: 31,
  },
};

const SEEDS_MAX = 200;

test.each(Object.entries(PLANTED))('a planted defect is found: %s', async (_name, { plant, found, from = 1 }) => {
  const sabotage = (world: SimWorld) => {
    world.wrap = (plane) => {
      const planted = plant(plane);
      return eachNoun(plane, (noun) => overlaid(plane[noun], planted[noun] ?? {}));
    };
  };
  const problems: string[] = [];
  for (let seed = from; seed < from + SEEDS_MAX && problems.length === 0; seed++)
    problems.push(...(await simulate(scriptOf(seed, HOURS), sabotage)).problems);
  expect(problems[0]).toMatch(found);
});

function overlaid<T extends object>(calls: T, planted: Partial<T>): T {
  return new Proxy(calls, { get: (target, name) => planted[name as keyof T] ?? target[name as keyof T] });
}

test('a failing script is shrunk to the events it needs', async () => {
  const asked = (world: SimWorld) => {
    const { take } = world;
    world.take = (write) => {
      if ('put' in write && write.put === '/catalog/settings' && world.nowMs > 100)
        world.problem('a setting was changed');
      take.call(world, write);
    };
  };
  const script = must(
    Array.from({ length: 50 }, (_, seed) => scriptOf(seed, HOURS)).find((s) =>
      s.events.slice(3).some((e) => e.what === 'set'),
    ),
    'a script that changes a setting',
  );
  const failed = await simulate(script, asked);
  expect(failed.problems).toEqual(['a setting was changed']);
  const least = await shrink(script, failed, 10_000, asked);
  expect(least.script.events.map((e) => e.what)).toEqual(['set']);
  expect(least.outcome.problems).toEqual(failed.problems);
});
