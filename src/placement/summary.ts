import type { Draft } from './draft.ts';
import type { Balance, Deviation } from './moves.ts';

/** What every node holds in a draft, and how far from even that is. */
export function summarize(draft: Draft): Balance {
  const nodes = draft.nodes.records.map((node, n) => ({
    node: node.id,
    replicas: draft.replicas.count[n] ?? 0,
    leaders: draft.leaders.count[n] ?? 0,
    bytes: draft.replicas.bytes[n] ?? 0,
  }));
  const counted = nodes.filter((_, n) => draft.nodes.records[n]?.state === 'active');
  return {
    nodes,
    replicas: deviation(counted.map((n) => n.replicas)),
    leaders: deviation(counted.map((n) => n.leaders)),
    bytes: deviation(counted.map((n) => n.bytes)),
  };
}

function deviation(values: readonly number[]): Deviation {
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  if (mean === 0) return { maxPercent: 0, avgPercent: 0 };
  const percents = values.map((value) => (100 * Math.abs(value - mean)) / mean);
  return {
    maxPercent: percents.reduce((max, percent) => Math.max(max, percent), 0),
    avgPercent: percents.reduce((sum, percent) => sum + percent, 0) / percents.length,
  };
}
