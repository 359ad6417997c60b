import { Random } from '../../fakes/random.ts';

/** How often each thing happens, as against the others. */
const WEIGHTS = {
  // What breaks.
  'crash-postgres': 6,
  'crash-process': 3,
  'crash-machine': 6,
  'lose-machine': 0.6,
  freeze: 3,
  cut: 4,
  isolate: 3,
  slow: 2,
  lag: 2,
  stall: 1.5,
  'disk-fills': 1,
  transaction: 2,
  'answer-lost': 3,
  'kill-manager': 3,
  'move-manager': 2,
  // What operators do.
  'add-node': 2,
  decommission: 2.5,
  recommission: 1,
  drain: 1.5,
  undrain: 1.5,
  cancel: 4,
  migrate: 6,
  'change-leader': 5,
  'add-replica': 3,
  'del-replica': 2,
  'scale-out': 1,
  offline: 1,
  recover: 1,
  drop: 1,
  set: 2,
  'create-table': 0.7,
  'drop-table': 0.4,
  doctor: 0.5,
};

export type What = keyof typeof WEIGHTS;
export const ALL_EVENTS = Object.keys(WEIGHTS) as What[];

/**
 * Something that happens. `a`, `b`, `c`: 0 to 1, chance of its own: what is left out around it changes
 * nothing about it.
 */
export interface SimEvent {
  readonly atMs: number;
  readonly what: What;
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

/** What a seed stands for: how the cluster begins, and everything that happens to it. */
export interface Script {
  readonly seed: number;
  readonly nodes: number;
  readonly partitions: number;
  readonly replicas: number;
  readonly lastsMs: number;
  readonly events: readonly SimEvent[];
}

const BETWEEN_MS = 2_500;

export function scriptOf(seed: number, hours: number): Script {
  const random = new Random(seed);
  // Neighbouring seeds begin alike.
  for (let i = 0; i < 8; i++) random.next();
  const lastsMs = Math.round(hours * 3_600_000);
  const events: SimEvent[] = [];
  for (let atMs = 500; atMs < lastsMs; atMs += Math.round(random.between(0, 2 * BETWEEN_MS))) {
    events.push({ atMs, what: random.weighted(WEIGHTS), a: random.next(), b: random.next(), c: random.next() });
  }
  return {
    seed,
    nodes: random.int(3, 5),
    partitions: random.int(2, 5),
    replicas: random.pick([2, 2, 3]),
    lastsMs,
    events,
  };
}
