import type { ClusterView, LoadView, NodeLoad, NodeRecord, TableRecord } from '../src/catalog/model.ts';
import { defaultSettings } from '../src/catalog/settings.ts';
import { partitionKey } from '../src/catalog/view.ts';
import { plan } from '../src/placement/plan.ts';
import { withAddedNodes, withDecommissioning } from '../src/placement/whatif.ts';
import { type Benchmark, type Figure, mib, seconds } from './benchmark.ts';

/**
 * The planner at the size it has to reach: 1,000 nodes, 100,000 partitions x 3, ten nodes more and ten nodes
 * fewer.
 */
const SIZES = { nodes: 1_000, tables: 100, partitionsPerTable: 1_000, replicas: 3, change: 10 };

export const planner: Benchmark = {
  name: 'planner',
  about: `plan of ${SIZES.change} nodes more and fewer, for ${SIZES.nodes} nodes and ${SIZES.tables * SIZES.partitionsPerTable} partitions × ${SIZES.replicas}`,
  run: (note) => {
    const { view, load } = evenCluster();
    note('cluster made up');
    const more = withAddedNodes(view, load, SIZES.change);
    const step = Math.floor(SIZES.nodes / SIZES.change);
    const leaving = Array.from({ length: SIZES.change }, (_, i) => 1 + i * step);
    return Promise.resolve([
      ...measure(`+${SIZES.change} nodes`, more.view, more.load),
      ...measure(`-${SIZES.change} nodes`, withDecommissioning(view, leaving), load),
    ]);
  },
};

function measure(scenario: string, view: ClusterView, load: LoadView): Figure[] {
  const startMs = performance.now();
  const { moves, bytesMoved, bytesMinimal, after } = plan(view, load, { kind: 'balance' });
  const tookMs = performance.now() - startMs;
  const percent = (value: number) => `${value.toFixed(1)} %`;
  return [
    { what: `${scenario}: time`, value: seconds(tookMs) },
    { what: `${scenario}: most memory of the process so far`, value: mib(process.resourceUsage().maxRSS * 1024) },
    { what: `${scenario}: moves`, value: String(moves.length) },
    { what: `${scenario}: bytes moved / least possible`, value: (bytesMoved / bytesMinimal).toFixed(4) },
    { what: `${scenario}: replicas of a node off the mean, at most`, value: percent(after.replicas.maxPercent) },
    { what: `${scenario}: bytes of a node off the mean, at most`, value: percent(after.bytes.maxPercent) },
  ];
}

/**
 * Tables of very different sizes, partitions of one table within a factor of two, replicas dealt out in turn.
 */
function evenCluster(): { view: ClusterView; load: LoadView } {
  const nodes = new Map<number, NodeRecord>();
  const loads = new Map<number, NodeLoad>();
  for (let id = 1; id <= SIZES.nodes; id++) {
    nodes.set(id, node(id));
    loads.set(id, { node: id, alive: true, diskTotalBytes: 4e12, diskFreeBytes: 3e12 });
  }
  const random = randomFrom(1);
  const partitionBytes = new Map<string, number>();
  const tables = new Map<number, TableRecord>();
  let dealt = 0;
  for (let tid = 1; tid <= SIZES.tables; tid++) {
    const tableBytes = 1e7 * 100 ** random();
    const partitions = Array.from({ length: SIZES.partitionsPerTable }, (_, pid) => {
      partitionBytes.set(partitionKey(tid, pid), Math.round(tableBytes * (0.7 + 0.6 * random())));
      const holders = Array.from({ length: SIZES.replicas }, (_, r) => 1 + ((dealt + r) % SIZES.nodes));
      const leader = holders[0] ?? 1;
      dealt += SIZES.replicas;
      const replicas = holders.map((id) => ({ node: id, state: 'ready' as const })).sort((a, b) => a.node - b.node);
      return { tid, pid, epoch: 1, leader, replicas };
    });
    tables.set(tid, {
      tid,
      schema: 'public',
      name: `t${tid}`,
      state: 'ready',
      distributeBy: 'id',
      partitionCount: partitions.length,
      replicaCount: SIZES.replicas,
      definition: { columns: [], primaryKey: [], checks: [], indexes: [] },
      partitions,
    });
  }
  const view: ClusterView = {
    revision: 0,
    clusterId: 'bench',
    startMode: 'start',
    nodes,
    tables,
    settings: defaultSettings(),
  };
  return { view, load: { nodes: loads, partitionBytes } };
}

function node(id: number): NodeRecord {
  const address = `n${id}:26257`;
  return {
    id,
    state: 'active',
    draining: false,
    address,
    httpAddress: address,
    postgresHost: `n${id}`,
    postgresPort: 5432,
    locality: [],
    attrs: [],
    build: '',
    startMode: 'start',
    startedAt: '',
  };
}

/** The same numbers in every run (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
