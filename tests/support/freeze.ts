import { must } from '../../src/core/assert.ts';
import { childrenOf, trySignal } from '../../src/local/processes.ts';
import type { LocalCluster } from './cluster.ts';

/**
 * Stops a node in the middle of whatever it does: its own process with its gateway workers, its postmaster
 * and every server process, by pid. Connections stay open and say nothing. Returns what lets it go on.
 */
export function freezeNode(cluster: LocalCluster, id: number): () => void {
  const node = must(cluster.node(id).processId, `process of node ${id}`);
  const postmaster = must(cluster.node(id).postgresProcessId, `postmaster of node ${id}`);
  // The postmaster first: it starts no process any more that the list would miss.
  const pids = [node, postmaster];
  for (const pid of pids) trySignal(pid, 'SIGSTOP');
  for (const pid of [...childrenOf(node), ...childrenOf(postmaster)]) {
    if (pids.includes(pid)) continue;
    trySignal(pid, 'SIGSTOP');
    pids.push(pid);
  }
  return () => {
    for (const pid of pids.splice(0).reverse()) trySignal(pid, 'SIGCONT');
  };
}
