import { scriptOf } from './script.ts';
import { shrink } from './shrink.ts';
import { type Outcome, simulate } from './simulate.ts';

/** Simulated time of one seed, hours, not counting the way to rest. */
export const HOURS = 0.008;
const SHRINK_MS = 20_000;

/**
 * Plays `count` seeds from `first` on and adds up what happened in them. Throws, with a trace, at the first
 * that breaks a rule.
 */
export async function sweep(first: number, count: number): Promise<Map<string, number>> {
  const sums = new Map<string, number>();
  for (let seed = first; seed < first + count; seed++) {
    const script = scriptOf(seed, HOURS);
    const outcome = await simulate(script);
    if (outcome.problems.length > 0) throw new Error(await report(seed, outcome));
    for (const [what, n] of outcome.counts) sums.set(what, (sums.get(what) ?? 0) + n);
  }
  return sums;
}

async function report(seed: number, failed: Outcome): Promise<string> {
  const { script, outcome } = await shrink(scriptOf(seed, HOURS), failed, SHRINK_MS);
  const again = `npm run sim -- --seed=${seed} --hours=${HOURS} --trace`;
  return [failed.problems[0], `with ${script.events.length} events:`, ...outcome.trace, `again: ${again}`].join('\n');
}
