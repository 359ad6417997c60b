import { defineConfig } from 'vitest/config';

const project = (name: string, timeoutMs: number, more: object = {}) => ({
  test: {
    name,
    include: [`tests/${name}/**/*.test.ts`],
    ...more,
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
  },
});

/** They hold pauses against their budget: nothing runs beside them. */
const PACED = ['bystanders', 'moves-under-load', 'rolling-restart', 'spanning-transactions'].map(
  (name) => `tests/cluster/${name}.test.ts`,
);

/** Group after group. Two cores carry one cluster well where pauses are measured, and three where most of the time something is waited for. */
export default defineConfig({
  test: {
    projects: [
      project('unit', 90_000, { maxWorkers: 2 }),
      project('sim', 300_000, {
        // What a simulated moment makes is garbage in the next.
        execArgv: ['--max-semi-space-size=64'],
        maxWorkers: 2,
        sequence: { groupOrder: 1 },
      }),
      project('cluster-paced', 180_000, { include: PACED, maxWorkers: 1, sequence: { groupOrder: 2 } }),
      project('cluster', 180_000, { exclude: PACED, maxWorkers: 3, sequence: { groupOrder: 3 } }),
      project('fault', 240_000, { maxWorkers: 3, sequence: { groupOrder: 3 } }),
      project('compat', 120_000, { maxWorkers: 3, sequence: { groupOrder: 3 } }),
    ],
  },
});
