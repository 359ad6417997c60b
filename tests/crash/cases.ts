import { OPERATION_KINDS } from '../../src/operations/registry.ts';
import { boundariesOf } from './boundaries.ts';
import { type Case, roleOf, VICTIMS } from './play.ts';
import { SCENARIOS } from './scenarios.ts';

/**
 * Every boundary with every victim that plays a part. In the first fifth each boundary stands once, with victims taking turns, so that a run that
 * is cut short has been everywhere.
 */
export function allCases(): Case[] {
  const perBoundary = [...OPERATION_KINDS.keys()].flatMap((kind) => {
    const scenario = SCENARIOS.find((s) => s.kind === kind);
    if (!scenario) return [];
    const victims = VICTIMS.filter((v) => {
      const role = roleOf(v);
      return role === null || scenario.nobody?.[role] === undefined;
    });
    return boundariesOf(kind).map((boundary) => ({ scenario, boundary, victims }));
  });
  return VICTIMS.flatMap((_, round) =>
    perBoundary.flatMap(({ scenario, boundary, victims }, i): Case[] => {
      if (round >= victims.length) return [];
      const victim = victims[(i + round) % victims.length];
      return victim ? [{ scenario, boundary, victim }] : [];
    }),
  );
}

/** They need a new node each, which takes longest, and are disturbed by `tests/fault/kill-decommission.test.ts` and `failover.test.ts` too. */
export const NOT_SELECTED = ['drop-node', 'rebalance'];

/** Of every other kind the boundary that matters most, its point of no return done and not journaled (or its first step), with victims taking turns. */
export function representativeCases(): Case[] {
  const kinds = [...OPERATION_KINDS.values()].filter(({ kind }) => !NOT_SELECTED.includes(kind));
  return kinds.flatMap(({ kind, steps }, i) => {
    const step = (steps.find((s) => s.noReturn) ?? steps[0])?.name;
    const there = allCases().filter(({ boundary: b }) => b.kind === kind && b.step === step && b.moment === 'effect');
    const one = there[i % there.length];
    return one ? [one] : [];
  });
}
