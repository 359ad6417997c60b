import { defineConfig } from 'vitest/config';

const project = (name: string, timeoutMs: number, serial: boolean, execArgv: string[] = []) => ({
  test: {
    name,
    execArgv,
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
      // What a simulated moment makes is garbage in the next: a larger nursery saves a fifth of the time.
      project('sim', 300_000, false, ['--max-semi-space-size=64']),
      project('cluster', 180_000, true),
      project('fault', 240_000, true),
      project('compat', 120_000, true),
    ],
  },
});
