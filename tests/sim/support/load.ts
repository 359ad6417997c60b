/**
 * What a thousand seeds have to have done at the least, about half of what 160 were seen to do: a simulation
 * in which nothing happens breaks no rule. Figures are of the whole sweep.
 */
export const LOAD_PER_THOUSAND: Readonly<Record<string, number>> = {
  events: 7_000,
  writes: 140_000,
  'commits told': 130_000,
  'commits with an unknown outcome': 1_500,
  'changes of servers': 65_000,
  'servers crashed': 800,
  'machines crashed': 400,
  'machines lost': 20,
  'processes crashed': 300,
  freezes: 250,
  cuts: 600,
  'streams stalled': 200,
  'streams renewed': 100,
  'managers started': 1_200,
  'meta store moved': 150,
  'leaders changed': 1_200,
  'failover done': 40,
  'recover-node done': 12,
  'drop-node done': 20,
  'join-node done': 150,
  'decommission done': 90,
  'drain-node done': 250,
  'create-table done': 60,
  'move-replica done': 1_100,
  'move-replica cancelled': 30,
  'change-leader done': 800,
  'add-replica done': 180,
  'resync-replica done': 120,
  // About a quarter of what 1,600 were seen to do.
  'rebalance done': 380,
  'remove-replica done': 12,
};

/** What there was too little of; empty: nothing. */
export function lacking(counts: ReadonlyMap<string, number>, seeds: number): string[] {
  return Object.entries(LOAD_PER_THOUSAND).flatMap(([what, atLeast]) => {
    const found = counts.get(what) ?? 0;
    return found < (atLeast * seeds) / 1_000 ? [`${found} ${what}, of ${(atLeast * seeds) / 1_000} at the least`] : [];
  });
}
