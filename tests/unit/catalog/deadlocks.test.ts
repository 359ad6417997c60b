import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  findDeadlocks,
  type OpenSession,
  type SeenEdge,
  type Transaction,
  waitEdges,
} from '../../../src/catalog/deadlocks.ts';

/** Sessions by `node/pid`: the age of their transaction, whom they came from, whom they wait for. */
type Told = Record<string, { ageMs?: number; via?: string; waits?: number[]; active?: boolean; since?: string }>;

const NOW_MS = 100_000;

function reports(told: Told): Map<number, OpenSession[]> {
  const byNode = new Map<number, OpenSession[]>();
  for (const [name, { ageMs = 1_000, via, waits, active = true, since = 'once' }] of Object.entries(told)) {
    const [node = 0, pid = 0] = name.split('/').map(Number);
    const [viaNode = 0, viaPid = 0] = (via ?? '').split('/').map(Number);
    const session: OpenSession = {
      pid,
      xact: 'x',
      startMs: NOW_MS - ageMs,
      active,
      via: via === undefined ? null : { node: viaNode, pid: viaPid },
      waits: waits ? { since, pids: waits, lock: 'ShareLock on transaction 7', relation: null } : null,
    };
    byNode.set(node, [...(byNode.get(node) ?? []), session]);
  }
  return byNode;
}

const named = (t: Transaction) => `${t.node}/${t.processId}`;
const waiting = (told: Told) => waitEdges(reports(told)).map((e) => `${named(e.from)} → ${named(e.to)}`);
const allSeen = (told: Told): SeenEdge[] => waitEdges(reports(told)).map((e) => ({ ...e, firstMs: 0, lastMs: 1 }));
const victims = (told: Told, nowMs = NOW_MS) =>
  findDeadlocks(allSeen(told), nowMs).deadlocks.map(
    (d) => `${named(d.victim)} of ${d.cycle.map((e) => named(e.from)).join(' ')}`,
  );

/** Two clients, of nodes 1 and 2, have each a session on the other's node. */
const CROSSED: Told = {
  '1/10': { ageMs: 900 },
  '2/20': { ageMs: 800 },
  '2/11': { via: '1/10', ageMs: 850, waits: [20] },
  '1/21': { via: '2/20', ageMs: 750, waits: [10] },
};

describe('who waits for whom', () => {
  test('a session that came from another node waits for its client', () => {
    expect(waiting(CROSSED).sort()).toEqual(['1/10 → 2/20', '2/20 → 1/10']);
  });

  test('so does one that came over several nodes', () => {
    const told: Told = { '1/10': {}, '2/11': { via: '1/10' }, '3/12': { via: '2/11', waits: [30] }, '3/30': {} };
    expect(waiting(told)).toEqual(['1/10 → 3/30']);
  });

  test('what is not known to be a client neither waits nor blocks', () => {
    expect(waiting({ '1/10': { waits: [99, 0] }, '1/11': { via: '7/1', waits: [10] } })).toEqual([]);
  });

  test('a session that is older than the transaction it names is somebody else, or left behind', () => {
    const told: Told = { '1/10': { ageMs: 500 }, '2/11': { via: '1/10', ageMs: 9_000, waits: [20] }, '2/20': {} };
    expect(waiting(told)).toEqual([]);
  });

  test('one whose client does nothing waits for nobody', () => {
    expect(waiting({ '1/10': { active: false }, '2/11': { via: '1/10', waits: [20] }, '2/20': {} })).toEqual([]);
  });

  test('names that lead in a circle end', () => {
    expect(waiting({ '1/10': { via: '2/11', waits: [12] }, '2/11': { via: '1/10' }, '1/12': {} })).toEqual([]);
  });
});

describe('deadlocks', () => {
  test('the youngest is the victim', () => {
    expect(victims(CROSSED)).toEqual(['2/20 of 1/10 2/20']);
  });

  test('one that waits for itself, through another node, is its own victim', () => {
    const told: Told = { '1/10': { waits: [12] }, '2/11': { via: '1/10' }, '1/12': { via: '2/11' } };
    expect(victims(told)).toEqual(['1/10 of 1/10']);
  });

  test('within one server PostgreSQL comes first', () => {
    const told: Told = { '1/10': { waits: [11] }, '1/11': { waits: [10] } };
    expect(victims(told, 2_000)).toEqual([]);
    expect(victims(told, 3_000)).toEqual(['1/11 of 1/10 1/11']);
  });

  test('two processes of one transaction on one server are no circle for PostgreSQL', () => {
    const told: Told = {
      '1/10': {},
      '1/20': {},
      '2/11': { via: '1/10', waits: [21] },
      '2/12': { via: '1/10' },
      '2/21': { via: '1/20' },
      '2/22': { via: '1/20', waits: [12] },
    };
    expect(victims(told, 1)).toHaveLength(1);
  });

  test('waits of different moments are none, and their nodes are to report again', () => {
    const [one, other] = allSeen(CROSSED) as [SeenEdge, SeenEdge];
    // The first was there until 10, the other came after 10.
    const found = findDeadlocks(
      [
        { ...one, firstMs: 0, lastMs: 10 },
        { ...other, firstMs: 11, lastMs: 5 },
      ],
      NOW_MS,
    );
    expect(found).toEqual({ deadlocks: [], suspects: new Set([1, 2]) });
    const later = findDeadlocks(
      [
        { ...one, firstMs: 0, lastMs: 12 },
        { ...other, firstMs: 11, lastMs: 11 },
      ],
      NOW_MS,
    );
    expect(later.deadlocks).toHaveLength(1);
    expect(later.suspects).toEqual(new Set());
  });

  test('a queue that ends is none', () => {
    expect(findDeadlocks(allSeen({ '1/10': {}, '2/11': { via: '1/10', waits: [20] }, '2/20': {} }), NOW_MS)).toEqual({
      deadlocks: [],
      suspects: new Set(),
    });
  });
});

/** Random clients on four nodes, each waiting on one node for some others. */
const graphs = fc
  .array(
    fc.record({
      node: fc.integer({ min: 1, max: 4 }),
      ageMs: fc.nat(5_000),
      at: fc.integer({ min: 1, max: 4 }),
      fors: fc.array(fc.nat(11), { maxLength: 3 }),
    }),
    { minLength: 2, maxLength: 12 },
  )
  .map((clients) => {
    const edges: SeenEdge[] = [];
    const of = (n: number): Transaction => {
      const { node = 1, ageMs = 0 } = clients[n] ?? {};
      return { id: `${node}/${n}/x`, node, processId: n, xact: 'x', startMs: NOW_MS - ageMs };
    };
    clients.forEach(({ at, fors }, n) => {
      for (const other of new Set(fors.filter((f) => f < clients.length)))
        edges.push({
          ...{ from: of(n), to: of(other), node: at, waiter: 100 + n, blocker: 200 + other, firstMs: 0, lastMs: 1 },
          wait: { since: 'once', pids: [], lock: 'lock', relation: null },
        });
    });
    return edges;
  });

/** By taking away whoever waits for nobody, over and over. */
function inCircles(edges: readonly SeenEdge[]): Set<string> {
  let left = edges;
  for (;;) {
    const waits = new Set(left.map((e) => e.from.id));
    const awaited = new Set(left.map((e) => e.to.id));
    const next = left.filter((e) => waits.has(e.to.id) && awaited.has(e.from.id));
    if (next.length === left.length) return new Set(left.map((e) => e.from.id));
    left = next;
  }
}

describe('any graph of waits', () => {
  test('has no circle left, no victim that was in none, and each is the youngest of its own', () => {
    let broken = 0;
    fc.assert(
      fc.property(graphs, (edges) => {
        const { deadlocks, suspects } = findDeadlocks(edges, NOW_MS);
        const ended = new Set(deadlocks.map((d) => d.victim.id));
        expect(inCircles(edges.filter((e) => !ended.has(e.from.id) && !ended.has(e.to.id)))).toEqual(new Set());
        expect(suspects).toEqual(new Set());
        expect(ended.size).toBe(deadlocks.length);
        for (const { victim, cycle } of deadlocks) {
          cycle.forEach((edge, n) => {
            expect(edges).toContainEqual(edge);
            expect(edge.to.id).toBe(cycle[(n + 1) % cycle.length]?.from.id);
            expect(edge.from.startMs).toBeLessThanOrEqual(victim.startMs);
          });
          expect(cycle.map((e) => e.from.id)).toContain(victim.id);
          broken++;
        }
        if (inCircles(edges).size === 0) expect(deadlocks).toEqual([]);
      }),
      { numRuns: 500 },
    );
    expect(broken).toBeGreaterThan(100);
  });

  test('finds a circle of hundreds', () => {
    const told: Told = {};
    for (let n = 0; n < 400; n++) {
      told[`1/${n + 1}`] = { ageMs: n };
      told[`2/${n + 1}`] = { via: `1/${n + 1}`, ageMs: n, waits: [((n + 1) % 400) + 1] };
    }
    // Half of them wait on each of two nodes: none of these knows it.
    for (let n = 0; n < 400; n += 2) {
      told[`3/${n + 1}`] = { ...told[`2/${n + 1}`], waits: [n + 2] };
      told[`3/${n + 2}`] = { via: `1/${n + 2}`, ageMs: n + 1 };
      told[`2/${n + 1}`] = { via: `1/${n + 1}`, ageMs: n };
    }
    expect(victims(told)).toEqual([expect.stringMatching(/^1\/1 of /)]);
  });
});
