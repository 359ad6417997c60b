/**
 * What clients saw, and whether one register and one list per key could have shown it to them. Times are
 * those of one clock, the clients'.
 *
 * Registers: every value is written once, so that a read names its write, and whether an order exists that
 * everybody could have seen is decided without a search (Gibbons and Korach, Testing Shared Memories, 1997,
 * theorem 4.1: zones). A write whose outcome is unknown has no end; one that nobody read need not have
 * happened. Lists: every appended value is there once, in an order that real time allows.
 */
export interface Operation {
  readonly kind: 'write' | 'append' | 'read';
  readonly key: number;
  readonly pid: number;
  /** Through which node it went. */
  readonly node: number;
  /** Whether that node did it itself, with rows of its own, rather than passing it on. */
  readonly local: boolean;
  /** Itself, or whom it passed it on to. */
  readonly by: number;
  /** Written, appended, or found in the register. */
  readonly value: number;
  /** Found in the list; empty but for reads. */
  readonly items: readonly number[];
  readonly invokedMs: number;
  /** Infinity where the outcome is unknown. */
  readonly endedMs: number;
  /** `fail`: it has certainly not happened. */
  readonly outcome: 'ok' | 'fail' | 'unknown';
}

/** Who led a partition from an epoch on, as the catalog has said. */
export interface Epoch {
  readonly pid: number;
  readonly epoch: number;
  readonly leader: number;
}

/** The value and the list that every key begins with. */
export const INITIAL = 0;

/**
 * Everything that is wrong with a history, as sentences; at most a few of each kind. `epochs`: every one that
 * any partition has had.
 */
export function whatIsWrongWith(history: readonly Operation[], epochs: readonly Epoch[]): string[] {
  const byKey = groupBy(history, (o) => o.key);
  return [
    ...[...byKey.values()].flatMap((ops) => [...registerFaults(ops), ...listFaults(ops)]),
    ...[...groupBy(history, (o) => o.pid)].flatMap(([pid, ops]) =>
      leaderFaults(
        ops,
        epochs.filter((e) => e.pid === pid),
      ),
    ),
  ];
}

interface Zone {
  readonly value: number;
  /** When the first operation with this value had ended, and when the last one began. */
  readonly endedMs: number;
  readonly invokedMs: number;
}

/** Of the operations on one key. */
function registerFaults(ops: readonly Operation[]): string[] {
  const key = ops[0]?.key;
  const reads = ops.filter((o) => o.kind === 'read' && o.outcome === 'ok');
  const writes = new Map(ops.filter((o) => o.kind === 'write').map((o) => [o.value, o]));
  const faults: string[] = [];
  const zones: Zone[] = [];
  for (const [value, seen] of groupBy([...reads, ...writes.values()], (o) => o.value)) {
    const write = writes.get(value);
    const readers = seen.filter((o) => o.kind === 'read');
    if (value !== INITIAL && (!write || write.outcome === 'fail')) {
      if (readers.length > 0) faults.push(`key ${key}: ${said(readers[0])}, which nobody wrote`);
      continue;
    }
    const early = readers.find((o) => o.endedMs < (write?.invokedMs ?? 0));
    if (early) faults.push(`key ${key}: ${said(early)} before it was written`);
    // It may never have happened.
    if (write?.outcome === 'unknown' && readers.length === 0) continue;
    const began = write ? seen : [...seen, BEGINNING];
    zones.push({
      value,
      endedMs: Math.min(...began.map((o) => o.endedMs)),
      invokedMs: Math.max(...began.map((o) => o.invokedMs)),
    });
  }
  if (!zones.some((z) => z.value === INITIAL)) zones.push({ value: INITIAL, ...BEGINNING });
  return [...faults, ...conflicts(zones).map((text) => `key ${key}: ${text}`)];
}

const BEGINNING = { invokedMs: Number.NEGATIVE_INFINITY, endedMs: Number.NEGATIVE_INFINITY };

/**
 * A value that was the register's for certain from one moment (one operation with it has ended) to another
 * (one is yet to begin) leaves no room there for a second such value, nor for any operation with another
 * value that began and ended in between.
 */
function conflicts(zones: readonly Zone[]): string[] {
  const held = zones.filter((z) => z.endedMs < z.invokedMs).sort((a, b) => a.endedMs - b.endedMs);
  const faults: string[] = [];
  for (const [i, zone] of held.entries()) {
    const next = held[i + 1];
    if (next && next.endedMs < zone.invokedMs)
      faults.push(`${zone.value} was seen ${span(zone)}, and ${next.value} ${span(next)}: both at once`);
  }
  for (const other of zones.filter((z) => z.endedMs >= z.invokedMs)) {
    const around = held.find((z) => z.endedMs < other.invokedMs && other.endedMs < z.invokedMs);
    if (around)
      faults.push(
        `${other.value} was the value between ${ms(other.invokedMs)} and ${ms(other.endedMs)} ms, and ${around.value} before and after: ${span(around)}`,
      );
  }
  return faults;
}

/** Of the operations on one key. */
function listFaults(ops: readonly Operation[]): string[] {
  const key = ops[0]?.key;
  const appends = new Map(ops.filter((o) => o.kind === 'append').map((o) => [o.value, o]));
  const faults: string[] = [];
  const reads = ops.filter((o) => o.kind === 'read' && o.outcome === 'ok').sort((a, b) => a.invokedMs - b.invokedMs);
  let longest: Operation | null = null;
  for (const read of reads) {
    const found = new Set(read.items);
    if (found.size < read.items.length) faults.push(`key ${key}: ${listed(read)} has a value twice`);
    for (const item of read.items) {
      const append = appends.get(item);
      if (!append || append.outcome === 'fail' || append.invokedMs > read.endedMs)
        faults.push(`key ${key}: ${listed(read)} has ${item}, which nobody had appended`);
    }
    for (const append of appends.values()) {
      if (append.outcome === 'ok' && append.endedMs < read.invokedMs && !found.has(append.value))
        faults.push(
          `key ${key}: ${listed(read)} lacks ${append.value}, acknowledged through node ${append.node} at ${ms(append.endedMs)} ms`,
        );
    }
    if (longest && longest.endedMs < read.invokedMs && !longest.items.every((item, i) => read.items[i] === item))
      faults.push(`key ${key}: ${listed(read)} does not begin as the list did at ${ms(longest.invokedMs)} ms`);
    if (!longest || read.items.length >= longest.items.length) longest = read;
    faults.push(...disorder(read, appends).map((text) => `key ${key}: ${text}`));
  }
  return faults.slice(0, FAULTS_MAX);
}

const FAULTS_MAX = 5;

/** A value that was acknowledged before another was asked for comes first. */
function disorder(read: Operation, appends: ReadonlyMap<number, Operation>): string[] {
  const faults: string[] = [];
  let latest: Operation | undefined;
  for (const item of read.items) {
    const append = appends.get(item);
    if (!append) continue;
    if (latest && append.endedMs < latest.invokedMs)
      faults.push(`${item} comes after ${latest.value}, which was appended when it had been acknowledged`);
    if (!latest || append.invokedMs > latest.invokedMs) latest = append;
  }
  return faults;
}

/**
 * Every acknowledgement that a node gave for rows of its own belongs to an epoch in which it led, and of two
 * that came one after the other the later one to no earlier epoch. Each is given the earliest epoch possible;
 * where there is none, two nodes led at once.
 */
function leaderFaults(ops: readonly Operation[], epochs: readonly Epoch[]): string[] {
  const acknowledged = ops
    .filter((o) => o.kind !== 'read' && o.outcome === 'ok' && o.local)
    .sort((a, b) => a.invokedMs - b.invokedMs);
  const inOrder = [...epochs].sort((a, b) => a.epoch - b.epoch);
  const given: { endedMs: number; epoch: number; node: number }[] = [];
  const faults: string[] = [];
  for (const { node, invokedMs, endedMs, pid, value } of acknowledged) {
    const before = given.filter((g) => g.endedMs < invokedMs);
    const last = before.reduce<(typeof given)[number] | null>((m, g) => (m && m.epoch >= g.epoch ? m : g), null);
    const epoch = inOrder.find((e) => e.leader === node && e.epoch >= (last?.epoch ?? 0))?.epoch;
    if (epoch !== undefined) given.push({ endedMs, epoch, node });
    else
      faults.push(
        last
          ? `partition ${pid}: node ${node} acknowledged ${value} at ${ms(endedMs)} ms, after node ${last.node} had done so in epoch ${last.epoch}`
          : `partition ${pid}: node ${node} acknowledged ${value} at ${ms(endedMs)} ms and never led`,
      );
  }
  return faults.slice(0, FAULTS_MAX);
}

const ms = (value: number) => Math.round(value);
const span = (zone: Zone) => `from ${ms(zone.endedMs)} to ${ms(zone.invokedMs)} ms`;
const said = (o: Operation | undefined) =>
  o ? `a read through node ${o.node} at ${ms(o.invokedMs)} ms found ${o.value}` : 'a read';
const listed = (o: Operation) => `the list through node ${o.node} at ${ms(o.invokedMs)} ms`;

function groupBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
