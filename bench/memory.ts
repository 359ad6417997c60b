import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Traffic } from '../src/demo/traffic.ts';
import { Ledger } from '../src/local/ledger.ts';
import type { LocalCluster } from '../src/local/local-cluster.ts';
import { type Benchmark, type Figure, mib } from './benchmark.ts';
import { loadDemoData, onCluster } from './loaded-cluster.ts';

const IDLE_MS = 5_000;
const TRAFFIC_MS = 30_000;

/** Resident memory of the pgtide process beside each PostgreSQL; the server's own is not in it. */
export const memory: Benchmark = {
  name: 'memory',
  about: `resident memory (VmRSS) of the pgtide process of each of three nodes: idle, and after ${TRAFFIC_MS / 1000} s of the demo's traffic`,
  run: async (note) =>
    await onCluster(3, async (cluster) => {
      await sleep(IDLE_MS);
      const idle = await figures(cluster, 'idle');
      const traffic = new Traffic(await loadDemoData(cluster, 3), new Ledger());
      for (const { id, address } of cluster.nodes) traffic.addNode(id, address);
      note('loaded');
      traffic.start();
      await sleep(TRAFFIC_MS);
      await traffic.stop();
      return [...idle, ...(await figures(cluster, 'after traffic'))];
    }),
};

async function figures(cluster: LocalCluster, when: string): Promise<Figure[]> {
  const nodes = await cluster.admin({ do: 'node-status' });
  return nodes.map(({ id, isManager }) => ({
    what: `node ${id}${isManager ? ', manager' : ''}, ${when}`,
    value: mib(residentBytes(cluster.node(id).processId)),
  }));
}

function residentBytes(pid: number | null): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}
