import type { PauseRow } from '../src/api/results.ts';
import { Traffic } from '../src/demo/traffic.ts';
import { percentile } from '../src/local/histogram.ts';
import { Ledger } from '../src/local/ledger.ts';
import type { LocalCluster } from '../src/local/local-cluster.ts';
import { type Benchmark, type Figure, ms, seconds } from './benchmark.ts';
import { loadDemoData, onCluster } from './loaded-cluster.ts';

const CHANGES = 200;

/** How long writers of a partition wait when its leader changes. */
export const pauses: Benchmark = {
  name: 'pauses',
  about: `${CHANGES} changes of leader, one after the other, on three nodes with the demo's tables, data and traffic (open transactions included)`,
  run: async (note) =>
    await onCluster(3, async (cluster) => {
      // Or the leaders that this takes out of balance would be brought back meanwhile.
      await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'false' });
      const book = await loadDemoData(cluster, 3);
      const traffic = new Traffic(book, new Ledger());
      for (const { id, address } of cluster.nodes) traffic.addNode(id, address);
      traffic.start();
      const begin = performance.now();
      const attempts = await changeLeaders(cluster, note).finally(() => traffic.stop());
      const elapsedMs = performance.now() - begin;
      return [
        ...distribution(
          'pause of a change that was made',
          attempts.filter((p) => p.outcome === 'done'),
        ),
        ...distribution(
          'pause of an attempt that backed off',
          attempts.filter((p) => p.outcome === 'backed-off'),
        ),
        { what: 'time of one change, all attempts', value: seconds(elapsedMs / CHANGES) },
        {
          what: 'statements meanwhile',
          value: `${traffic.stats.statements} (${traffic.stats.failed} failed, ${traffic.stats.incompleteReads} incomplete)`,
        },
      ];
    }),
};

async function changeLeaders(cluster: LocalCluster, note: (text: string) => void): Promise<PauseRow[]> {
  const tables = await cluster.admin({ do: 'table-ls' });
  const partitions = tables.flatMap((t) => Array.from({ length: t.partitions }, (_, pid) => ({ table: t.name, pid })));
  const attempts: PauseRow[] = [];
  for (let change = 0; change < CHANGES; change++) {
    const partition = partitions[change % partitions.length];
    if (!partition) throw new Error('there are no partitions');
    const { operations } = await cluster.admin({ do: 'partition-change-leader', ...partition, to: 'auto' });
    for (const id of operations) {
      const operation = await cluster.waitForOperation(id);
      attempts.push(...operation.pauses.filter((p) => p.purpose === 'leader'));
    }
    if ((change + 1) % 50 === 0) note(`${change + 1} of ${CHANGES} changes`);
  }
  return attempts;
}

function distribution(what: string, attempts: readonly PauseRow[]): Figure[] {
  const values = attempts.map((p) => p.pauseMs);
  const [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1].map((share) => ms(percentile(values, share)));
  return [
    {
      what: `${what} (${values.length})`,
      value: values.length === 0 ? '-' : `p50 ${p50}, p90 ${p90}, p99 ${p99}, max ${max}`,
    },
  ];
}
