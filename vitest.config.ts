import { defineConfig } from 'vitest/config';

const project = (name: string, timeoutMs: number, maxWorkers?: number, execArgv: string[] = []) => ({
  test: {
    name,
    execArgv,
    include: [`tests/${name}/**/*.test.ts`],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
    // Two cores carry one cluster well where pauses are measured, and two where most of the time something is waited for.
    ...(maxWorkers === undefined ? {} : { maxWorkers }),
  },
});

export default defineConfig({
  test: {
    projects: [
      project('unit', 90_000),
      // What a simulated moment makes is garbage in the next: a larger nursery saves a fifth of the time.
      project('sim', 300_000, undefined, ['--max-semi-space-size=64']),
      project('cluster', 180_000, 1),
      project('fault', 240_000, 2),
      project('compat', 120_000, 1),
    ],
  },
});
