import { must } from '../../src/core/assert.ts';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';
import { boundariesOf, nameOf } from './boundaries.ts';
import { type Case, roleOf, VICTIMS } from './play.ts';
import { SCENARIOS } from './scenarios.ts';

/**
 * Every boundary of every scenario with every victim that plays a part. In the first fifth each boundary
 * stands once, with victims taking turns, so that a run that is cut short has been everywhere.
 */
export function allCases(): Case[] {
  const inOrder = [...OPERATION_KINDS.keys()].flatMap((kind) => SCENARIOS.filter((s) => s.kind === kind));
  const perBoundary = inOrder.flatMap((scenario) => {
    const victims = VICTIMS.filter((v) => {
      const role = roleOf(v);
      return role === null || scenario.nobody?.[role] === undefined;
    });
    const met = boundariesOf(scenario.kind).filter(({ step }) => scenario.idle?.[step] === undefined);
    return met.map((boundary) => ({ scenario, boundary, victims }));
  });
  return VICTIMS.flatMap((_, round) =>
    perBoundary.flatMap(({ scenario, boundary, victims }, i): Case[] => {
      if (round >= victims.length) return [];
      const victim = victims[(i + round) % victims.length];
      return victim ? [{ scenario, boundary, victim }] : [];
    }),
  );
}

/**
 * The first two need a new node each, which takes longest, and are disturbed by
 * `tests/fault/kill-decommission.test.ts` and `failover.test.ts` too; a move of a leader goes through the
 * steps of a change of leader, and is killed at the same one.
 */
export const NOT_SELECTED = ['drop-node', 'rebalance', 'change-leader'];

/**
 * The last undo there is before a point of no return: a move of a leader takes back its whole way from there.
 */
const UNDONE = 'move-replica/prepare-forward/undone';

/**
 * Of every other kind the boundary that matters most, its point of no return done and not journaled (or its
 * first step), and one undo, with victims taking turns.
 */
export function representativeCases(): Case[] {
  const kinds = [...OPERATION_KINDS.values()].filter(({ kind }) => !NOT_SELECTED.includes(kind));
  const effects = kinds.map(({ kind, steps }) => {
    const step = steps.find((s) => s.noReturn) ?? must(steps[0], `step of ${kind}`);
    return nameOf({ kind, step: step.name, moment: 'effect' });
  });
  return [...effects, UNDONE].flatMap((name, i) => {
    const there = allCases().filter(({ boundary }) => nameOf(boundary) === name);
    const one = there[i % there.length];
    return one ? [one] : [];
  });
}
