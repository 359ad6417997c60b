import { humanSeconds } from '../units.ts';
import { entry } from './entry.ts';

/** Errors of running operations. */
export const operationErrors = {
  QUORUM_NOT_TAKEN: entry<{ node: number; quorum: string; seconds: number }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) =>
      `PostgreSQL of node ${d.node} has not taken up synchronous_standby_names = '${d.quorum}' within ${d.seconds} s`,
    hint: () =>
      'it is tried again by itself; if it stays so, look into the log of that node: a server starved of CPU, or a setting on its command line',
  }),
  FENCE_NOT_UP: entry<{ seconds: number; why: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `the fence of this node's PostgreSQL is not up after ${d.seconds} s: ${d.why}`,
    hint: () =>
      'it is tried again by itself, and nobody new is let in meanwhile; if it stays so, end those sessions by hand',
  }),
  OP_UNKNOWN: entry<{ id: number }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `operation ${d.id} does not exist`,
    hint: () => 'tide op ls --all lists the operations',
  }),
  OP_FORGOTTEN: entry<{ id: number; count: number; seconds: number }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `operation ${d.id} is over and kept no more`,
    hint: (d) =>
      `${d.count} ended operations are kept, for ${humanSeconds(d.seconds)} (operations.keep_count, operations.keep_for); tide events may still tell how it ended`,
  }),
  OP_ENDED: entry<{ id: number; status: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `operation ${d.id} has ended already: ${d.status}`,
    hint: (d) => `tide op show ${d.id} tells what it did`,
  }),
  OP_PAST_NO_RETURN: entry<{ id: number; step: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `operation ${d.id} is past its point of no return (step ${d.step}) and will go on to its end`,
    hint: () => 'when it has ended, start the opposite operation',
  }),
  PARTITION_BUSY: entry<{ partition: string; operation: number }>({
    retry: 'later',
    sqlstate: '55006',
    text: (d) => `${d.partition} is being changed by operation ${d.operation}`,
    hint: (d) => `wait for it (tide op watch ${d.operation}) or cancel it (tide op cancel ${d.operation})`,
  }),
  BUSY: entry<{ what: string; operation: number }>({
    retry: 'later',
    sqlstate: '55006',
    text: (d) => `${d.what} is being changed by operation ${d.operation}`,
    hint: (d) => `wait for it (tide op watch ${d.operation}) or cancel it (tide op cancel ${d.operation})`,
  }),
  NODE_UNREACHABLE: entry<{ node: number; why: string }>({
    retry: 'later',
    sqlstate: '08006',
    text: (d) => `PostgreSQL of node ${d.node} does not answer: ${d.why}`,
    hint: () => 'tide node status shows which nodes are alive',
  }),
  NODES_SHARE_OPERATION: entry<{ nodes: string; operation: number; all: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `${d.nodes} is part of operation ${d.operation}, which takes nodes ${d.all} away together`,
    hint: (d) => `recommission all of them: tide node recommission ${d.all}`,
  }),
  DISK_FULL: entry<{ node: number; freePercent: number }>({
    retry: 'when-cluster-changes',
    sqlstate: '53100',
    text: (d) => `node ${d.node} has ${d.freePercent} % of its disk left: the copy to it was given up`,
    hint: () =>
      'free room there; what the cluster itself wants there is tried again, what you asked for is for you to repeat',
  }),
  WAL_RETAINED: entry<{ node: number; to: number; kept: string; why: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '53100',
    text: (d) =>
      `node ${d.node} had to keep ${d.kept} of WAL for the copy to node ${d.to}, ${d.why}: the copy was given up`,
    hint: () =>
      'move when there are fewer writes, or one partition at a time (move.concurrency); or raise move.max_retained_wal where the disk has the room',
  }),
  STREAM_LOST: entry<{ from: number; to: number }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `the stream from node ${d.from} to node ${d.to} was ended before the new replica counted`,
    hint: () => 'tide events says who ended it and why; what the cluster itself wants is tried again',
  }),
  COPY_FAILED: entry<{ from: number; to: number; tries: number; why: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `node ${d.to} could not take a copy from node ${d.from} in ${d.tries} tries: ${d.why}`,
    hint: (d) =>
      `the log of PostgreSQL on node ${d.to} has the details; what the cluster itself wants is tried again, what you asked for is for you to repeat`,
  }),
  META_FULL: entry<{ why: string }>({
    retry: 'later',
    sqlstate: '53100',
    text: (d) => `the meta store has no room on its disk, and nothing was changed: ${d.why}`,
    hint: () => 'free room on the disk of the node that manages; operations wait for it and go on by themselves',
  }),
  STREAM_BEHIND: entry<{ from: number; to: number }>({
    retry: 'later',
    sqlstate: '55000',
    text: (d) => `node ${d.to} has not applied yet what node ${d.from} wrote before`,
    hint: () => 'pgtide tries again by itself; tide partition ls shows the lag',
  }),
  SERVER_IN_USE: entry<{ server: string; hinge: string }>({
    retry: 'later',
    sqlstate: '55006',
    text: (d) => `the foreign server ${d.server} cannot be dropped: ${d.hinge} still leads through it`,
    hint: () => 'pgtide points the hinge elsewhere and tries again by itself',
  }),
  REPLICA_IN_USE: entry<{ replica: string; node: number }>({
    retry: 'later',
    sqlstate: '55006',
    text: (d) => `replica ${d.replica} on node ${d.node} is still attached to its hinge`,
    hint: () => 'pgtide tries again by itself',
  }),
};
