import type { NodeId } from './model.ts';

/**
 * Names of everything pgtide makes inside a PostgreSQL server. One place, so that `tide doctor` can tell ours
 * from the user's.
 */

export const SCHEMAS = { own: 'tide', hinge: 'tide_hinge', data: 'tide_data', remote: 'tide_remote' } as const;

/** PostgreSQL's FirstNormalObjectId: what initdb makes has a lower oid. */
export const FIRST_USER_OID = 16_384;

/** `t4_p0`: the hinge in `tide_hinge` and the replica table in `tide_data`. */
export function partitionTable(tid: number, pid: number): string {
  return `t${tid}_p${pid}`;
}

/** The partition that `t4_p0` is. */
export function parsePartitionTable(name: string): { tid: number; pid: number } {
  const [tid = '', pid = ''] = name.slice(1).split('_p');
  return { tid: Number(tid), pid: Number(pid) };
}

/** `t4_p0_n2` in `tide_remote`: foreign table to node 2's hinge. */
export function remoteTable(tid: number, pid: number, node: NodeId): string {
  return `${partitionTable(tid, pid)}_n${node}`;
}

/**
 * Foreign table and foreign server that lead from the old leader to the new leader's replica table while a
 * swing settles. A foreign server of its own, because postgres_fdw keeps one REPEATABLE READ transaction for
 * each: statements through this one see the new leader as it is after the swing.
 */
export function forwardName(tid: number, pid: number, epoch: number): string {
  return `${partitionTable(tid, pid)}_fwd_e${epoch}`;
}

/** The foreign server (postgres_fdw) that leads to a node, the same name everywhere. */
export function foreignServerName(node: NodeId): string {
  return `tide_n${node}`;
}

/** Publication on the sending node. */
export function publicationName(to: NodeId): string {
  return `tide_to_${to}`;
}

/** Subscription on the receiving node and the slot on the sending one. */
export function subscriptionName(from: NodeId, to: NodeId): string {
  return `tide_${from}_${to}`;
}
