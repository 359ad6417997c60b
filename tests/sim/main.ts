import process from 'node:process';
import { parseArgs } from 'node:util';
import { scriptOf } from './support/script.ts';
import { shrink } from './support/shrink.ts';
import { type Outcome, simulate } from './support/simulate.ts';

/**
 * `npm run sim -- --seed=N --hours=H [--seeds=K] [--trace]`: plays K seeds from N on; of the first that
 * fails, a trace as short as possible.
 */

const SHRINK_MS = 60_000;

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    hours: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false },
  },
});
const hours = Number(values.hours);
const first = Number(values.seed);
const last = first + Number(values.seeds) - 1;
const write = (text: string) => process.stdout.write(`${text}\n`);

const counts = new Map<string, number>();
const failed: { seed: number; outcome: Outcome }[] = [];
const beganMs = performance.now();
for (let seed = first; seed <= last; seed++) {
  const outcome = await simulate(scriptOf(seed, hours));
  for (const [what, count] of outcome.counts) counts.set(what, (counts.get(what) ?? 0) + count);
  if (values.trace) for (const line of outcome.trace) write(line);
  if (outcome.problems.length === 0) continue;
  failed.push({ seed, outcome });
  write(`seed ${seed}: ${outcome.problems[0]}`);
}
const tookMs = performance.now() - beganMs;

const [worst] = failed;
if (worst) {
  const least = await shrink(scriptOf(worst.seed, hours), worst.outcome, SHRINK_MS);
  write(`\nseed ${worst.seed} with ${least.script.events.length} of its events:\n`);
  for (const line of least.outcome.trace) write(line);
  write(`\nAgain: npm run sim -- --seed=${worst.seed} --hours=${hours} --trace`);
} else {
  for (const [what, count] of [...counts].sort()) write(`${String(count).padStart(10)}  ${what}`);
}
write(`\n${last - first + 1} seeds, ${failed.length} failed, ${(tookMs / 1000).toFixed(1)} s`);
process.exitCode = failed.length > 0 ? 1 : 0;
