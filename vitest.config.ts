import { defineConfig } from 'vitest/config';

const project = (name: string, timeoutMs: number, serial: boolean, more: object = {}) => ({
  test: {
    name,
    ...more,
    include: [`tests/${name}/**/*.test.ts`],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
    // Files that start servers run one after the other: two cores carry one cluster well, not four.
    fileParallelism: !serial,
  },
});

export default defineConfig({
  test: {
    projects: [
      project('unit', 90_000, false),
      project('sim', 300_000, false, {
        // What a simulated moment makes is garbage in the next.
        execArgv: ['--max-semi-space-size=64'],
        // It starts no servers and needs a core for every file: by itself, when the others are done.
        maxWorkers: 2,
        sequence: { groupOrder: 1 },
      }),
      project('cluster', 180_000, true),
      project('fault', 240_000, true),
      project('compat', 120_000, true),
    ],
  },
});
