import { defineConfig } from 'vitest/config';

const project = (name: string, timeoutMs: number, more: object = {}) => ({
  test: {
    name,
    ...more,
    include: [`tests/${name}/**/*.test.ts`],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
  },
});

/** Group after group. Two cores carry one cluster well where pauses are measured, and two where most of the time something is waited for. */
export default defineConfig({
  test: {
    projects: [
      project('unit', 90_000),
      project('sim', 300_000, {
        // What a simulated moment makes is garbage in the next.
        execArgv: ['--max-semi-space-size=64'],
        maxWorkers: 2,
        sequence: { groupOrder: 1 },
      }),
      project('cluster', 180_000, { maxWorkers: 1, sequence: { groupOrder: 2 } }),
      project('fault', 240_000, { maxWorkers: 2, sequence: { groupOrder: 3 } }),
      project('compat', 120_000, { maxWorkers: 2, sequence: { groupOrder: 3 } }),
    ],
  },
});
