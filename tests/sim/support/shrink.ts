import type { Script, SimEvent } from './script.ts';
import { type Outcome, simulate } from './simulate.ts';
import type { SimWorld } from './world.ts';

/**
 * The script with events left out that a failure does not need: halves, quarters, single ones, again and
 * again until nothing more can go or `budgetMs` of real time is used up. It has to fail in the same way, as
 * `kindOf` tells it.
 */
export async function shrink(
  script: Script,
  failed: Outcome,
  budgetMs: number,
  sabotage?: (world: SimWorld) => void,
): Promise<{ script: Script; outcome: Outcome }> {
  const untilMs = performance.now() + budgetMs;
  const kind = kindOf(failed);
  let least = { script, outcome: failed };
  for (let size = Math.ceil(script.events.length / 2); size >= 1; ) {
    const smaller = await without(least.script, size, kind, untilMs, sabotage);
    if (smaller) least = smaller;
    if (performance.now() > untilMs) break;
    if (!smaller) size = size === 1 ? 0 : Math.ceil(size / 2);
  }
  return least;
}

async function without(
  script: Script,
  size: number,
  kind: string,
  untilMs: number,
  sabotage?: (world: SimWorld) => void,
) {
  for (let at = 0; at < script.events.length && performance.now() < untilMs; at += size) {
    const events: readonly SimEvent[] = script.events.toSpliced(at, size);
    const smaller = { ...script, events };
    const outcome = await simulate(smaller, sabotage);
    if (outcome.problems.length > 0 && kindOf(outcome) === kind) return { script: smaller, outcome };
  }
  return null;
}

/** What is wrong, without saying where: the first problem with its numbers left out. */
function kindOf(outcome: Outcome): string {
  return (outcome.problems[0] ?? '').replaceAll(/\d+/g, '#').split('\n').slice(0, 2).join('\n').slice(0, 160);
}
