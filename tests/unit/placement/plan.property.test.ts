import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ClusterView, LoadView, NodeLoad, NodeState, Partition, Replica } from '../../../src/catalog/model.ts';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { allPartitions, partitionKey, partitionOf, replicaOn } from '../../../src/catalog/view.ts';
import { Localities } from '../../../src/placement/localities.ts';
import { viewAfter } from '../../../src/placement/outcome.ts';
import { type Goal, type Move, plan, planNext } from '../../../src/placement/plan.ts';
import { nodeRecord, partition, tableRecord } from './script.ts';

interface World {
  view: ClusterView;
  load: LoadView;
}

const MB = 1e6;
const DISK = 1000 * MB;

const nodeSpec = fc.record({
  state: fc.constantFrom<NodeState[]>('active', 'active', 'active', 'active', 'decommissioning', 'joining'),
  draining: fc.oneof({ arbitrary: fc.constant(false), weight: 9 }, { arbitrary: fc.constant(true), weight: 1 }),
  alive: fc.oneof({ arbitrary: fc.constant(true), weight: 9 }, { arbitrary: fc.constant(false), weight: 1 }),
  zone: fc.nat(3),
  freeMb: fc.option(fc.integer({ min: 60, max: 1000 }), { nil: null }),
});

const partitionSpec = fc.record({
  order: fc
    .infiniteStream(fc.nat(1_000_000))
    .map((stream) => Array.from({ length: 12 }, () => stream.next().value ?? 0)),
  mb: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 120 })),
  count: fc.integer({ min: 1, max: 4 }),
  state: fc.constantFrom<Replica['state'][]>(
    'ready',
    'ready',
    'ready',
    'ready',
    'ready',
    'ready',
    'stale',
    'joining',
    'leaving',
  ),
});

const worlds: fc.Arbitrary<World> = fc
  .record({
    nodes: fc.array(nodeSpec, { minLength: 2, maxLength: 12 }),
    zoned: fc.boolean(),
    tables: fc.array(
      fc.record({
        replicas: fc.integer({ min: 1, max: 3 }),
        partitions: fc.array(partitionSpec, { minLength: 1, maxLength: 16 }),
      }),
      { minLength: 1, maxLength: 4 },
    ),
  })
  .map(({ nodes, zoned, tables }) => {
    const records = nodes.map((n, i) => {
      const locality = zoned ? [{ key: 'zone', value: `z${n.zone}` }] : [];
      return nodeRecord(i + 1, { state: n.state, draining: n.draining, locality });
    });
    const loads = nodes.map((n, i): NodeLoad => {
      const disk = n.freeMb === null ? 0 : DISK;
      return { node: i + 1, alive: n.alive, diskTotalBytes: disk, diskFreeBytes: (n.freeMb ?? 0) * MB };
    });
    const partitionBytes = new Map<string, number>();
    const members = records.filter((n) => n.state !== 'joining').map((n) => n.id);
    const tableRecords = tables.map((table, t) => {
      const partitions = table.partitions.map((spec, pid): Partition => {
        partitionBytes.set(partitionKey(t + 1, pid), spec.mb * MB);
        const shuffled = [...members].sort((a, b) => (spec.order[a - 1] ?? 0) - (spec.order[b - 1] ?? 0) || a - b);
        const holders = shuffled.slice(0, Math.min(spec.count, Math.max(1, shuffled.length)));
        const replicas = holders.map((node, i) => ({ node, state: i === 1 ? spec.state : ('ready' as const) }));
        return partition(t + 1, pid, replicas.length > 0 ? replicas : [{ node: 1, state: 'ready' }]);
      });
      return tableRecord(t + 1, `t${t + 1}`, table.replicas, partitions);
    });
    return {
      view: {
        revision: 0,
        clusterId: 'c',
        startMode: 'start' as const,
        nodes: new Map(records.map((n) => [n.id, n])),
        tables: new Map(tableRecords.map((t) => [t.tid, t])),
        settings: defaultSettings(),
      },
      load: { nodes: new Map(loads.map((n) => [n.node, n])), partitionBytes },
    };
  });

const goals = fc.constantFrom<Goal[]>({ kind: 'balance' }, { kind: 'repair' });

function freed(load: LoadView, move: Move): LoadView {
  const bytes = load.partitionBytes.get(partitionKey(move.tid, move.pid)) ?? 0;
  const nodes = new Map(load.nodes);
  const shift = (id: number, by: number) => {
    const node = nodes.get(id);
    if (node) nodes.set(id, { ...node, diskFreeBytes: node.diskFreeBytes + by });
  };
  if (move.kind === 'add-replica' || move.kind === 'move-replica') shift(move.to, -bytes);
  if (move.kind === 'remove-replica' || move.kind === 'move-replica') shift(move.from, bytes);
  return { ...load, nodes };
}

function apply({ view, load }: World, move: Move): World {
  return { view: viewAfter(view, [move]), load: freed(load, move) };
}

/** The hard rules for one move in the state it starts from. */
function check({ view, load }: World, move: Move): void {
  const p = partitionOf(view, move.tid, move.pid);
  if (!p) throw new Error('no such partition');
  expect(load.nodes.get(p.leader)?.alive, 'copied from a live leader').toBe(true);
  expect(
    p.replicas.every((r) => r.state !== 'joining' && r.state !== 'leaving'),
    'nobody is at it',
  ).toBe(true);
  const table = view.tables.get(move.tid);
  if ('from' in move) expect(replicaOn(p, move.from), 'source holds it').toBeDefined();
  if (move.kind === 'remove-replica') {
    expect(p.replicas.length - 1).toBeGreaterThanOrEqual(table?.replicaCount ?? 0);
    expect(p.leader).not.toBe(move.from);
    return;
  }
  const target = view.nodes.get(move.to);
  expect(load.nodes.get(move.to)?.alive, 'target is alive').toBe(true);
  if (move.kind === 'resync-replica') {
    expect(replicaOn(p, move.to)?.state).toBe('stale');
    return;
  }
  expect(target?.state, 'target is active').toBe('active');
  expect(target?.draining, 'target is not draining').toBe(false);
  if (move.kind === 'change-leader') {
    expect(p.leader).toBe(move.from);
    expect(replicaOn(p, move.to)?.state).toBe('ready');
    expect(move.to).not.toBe(move.from);
    return;
  }
  expect(replicaOn(p, move.to), 'one replica per node').toBeUndefined();
  const disk = load.nodes.get(move.to);
  if (disk && disk.diskTotalBytes > 0 && move.bytes > 0) {
    expect(disk.diskFreeBytes - move.bytes).toBeGreaterThanOrEqual(disk.diskTotalBytes * 0.1 - 1);
  }
}

test('every prefix of a plan keeps the hard rules', () => {
  fc.assert(
    fc.property(worlds, goals, (world, goal) => {
      let now = world;
      for (const move of plan(world.view, world.load, goal).moves) {
        check(now, move);
        now = apply(now, move);
      }
    }),
    { numRuns: 300 },
  );
});

test('carried out, a plan leaves nothing to plan', () => {
  fc.assert(
    fc.property(worlds, goals, (world, goal) => {
      const first = plan(world.view, world.load, goal);
      const after = first.moves.reduce(apply, world);
      const second = plan(after.view, after.load, goal);
      expect(second.moves).toEqual([]);
      expect(second.before).toEqual(first.after);
      expect(second.blocked).toEqual(first.blocked);
    }),
    { numRuns: 300 },
  );
});

test('a plan costs no less than its lower bound, and the same every time', () => {
  fc.assert(
    fc.property(worlds, goals, (world, goal) => {
      const once = plan(world.view, world.load, goal);
      expect(once.bytesMoved).toBeGreaterThanOrEqual(once.bytesMinimal - 1);
      const nodes = new Map([...world.view.nodes].reverse());
      const tables = new Map([...world.view.tables].reverse());
      expect(plan({ ...world.view, nodes, tables }, world.load, goal)).toEqual(once);
    }),
    { numRuns: 150 },
  );
});

test('a balance of a whole cluster never crowds localities', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const nodes = [...world.view.nodes.values()];
      fc.pre(nodes.every((n) => n.state === 'active'));
      const localities = new Localities(nodes);
      const crowding = (p: Partition) => localities.crowdingOf(p.replicas.map((r) => r.node - 1));
      const repaired = plan(world.view, world.load, { kind: 'repair' }).moves.reduce(apply, world);
      const balanced = plan(repaired.view, repaired.load, { kind: 'balance' }).moves.reduce(apply, repaired);
      for (const { partition: p } of allPartitions(repaired.view)) {
        const then = partitionOf(balanced.view, p.tid, p.pid);
        if (then && then.replicas.length === p.replicas.length) expect(crowding(then)).toBeLessThanOrEqual(crowding(p));
      }
    }),
    { numRuns: 150 },
  );
});

test('running move after move under the limits ends where nothing is left, and never overfills a disk', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      let now = world;
      let running: Move[] = [];
      for (let turn = 0; ; turn++) {
        expect(turn).toBeLessThan(2_000);
        const next = planNext(
          now.view,
          now.load,
          { kind: 'balance' },
          running.map((move, operation) => ({ operation, move })),
        );
        for (const move of next.start) {
          expect(running.some((r) => r.tid === move.tid && r.pid === move.pid)).toBe(false);
          check(now, move);
        }
        running = [...running, ...next.start];
        expect(running.length).toBeLessThanOrEqual(4);
        for (const id of now.view.nodes.keys()) {
          const at = running.filter((m) => ('to' in m && m.to === id) || ('from' in m && m.from === id));
          expect(at.length).toBeLessThanOrEqual(2);
          const arriving = at.reduce(
            (sum, m) => sum + ('to' in m && m.to === id && m.kind !== 'resync-replica' ? m.bytes : 0),
            0,
          );
          const disk = now.load.nodes.get(id);
          if (disk && disk.diskTotalBytes > 0 && arriving > 0) {
            expect(disk.diskFreeBytes - arriving).toBeGreaterThanOrEqual(disk.diskTotalBytes * 0.1 - 1);
          }
        }
        const [done, ...rest] = running;
        if (!done) {
          expect(next.waiting).toEqual([]);
          return;
        }
        now = apply(now, done);
        running = rest;
      }
    }),
    { numRuns: 60 },
  );
});
