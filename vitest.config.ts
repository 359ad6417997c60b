import { defineConfig } from 'vitest/config';

const project = (name: string, timeoutMs: number, serial: boolean) => ({
  test: {
    name,
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
      project('sim', 300_000, false),
      project('cluster', 180_000, true),
      project('fault', 240_000, true),
      project('compat', 120_000, true),
    ],
  },
});
