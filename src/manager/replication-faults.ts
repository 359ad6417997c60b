import type { DoctorRow } from '../api/results.ts';
import { type ApplyFailure, partitionIn } from '../catalog/apply-failures.ts';
import type { ClusterView, NodeId, Partition } from '../catalog/model.ts';
import { allPartitions, connectedNodes, replicaOn } from '../catalog/view.ts';
import { partitionName } from '../placement/naming.ts';
import { describeFailure, failingPartition } from './apply-keeper.ts';

/** What is shown of streams that fail, and of replicas that were given up for it. */

interface Failures {
  failuresOf(node: NodeId): ApplyFailure[];
}

/** So many faults stand in a sentence; `tide partition ls` has the others. */
const SAID_MAX = 3;

/** What a node is sent and cannot apply, the first few; null where nothing fails. */
export function replicationOf(view: ClusterView, streams: Failures, node: NodeId): string | null {
  const faults = faultsOn(view, streams, node);
  if (faults.length === 0) return null;
  const more = faults.length - SAID_MAX;
  const said = faults.slice(0, SAID_MAX).map((fault) => fault.why);
  return [...said, ...(more > 0 ? [`and ${more} more: tide partition ls`] : [])].join('; ');
}

/** Why a replica is stale, or about to be; null where nothing is wrong with it. */
export function whyOf(view: ClusterView, streams: Failures, partition: Partition, node: NodeId): string | null {
  const stale = replicaOn(partition, node)?.why;
  if (stale !== undefined) return stale;
  const failure = streams.failuresOf(node).find((each) => isOf(each, partition));
  return failure ? describeFailure(view, failure) : null;
}

/** For `tide doctor`, which cannot mend it. */
export function replicationFindings(view: ClusterView, streams: Failures): DoctorRow[] {
  return connectedNodes(view).flatMap(({ id: node }) =>
    faultsOn(view, streams, node).map(({ name, why }) => ({ node, kind: 'replication', name, why, fixed: false })),
  );
}

function faultsOn(view: ClusterView, streams: Failures, node: NodeId): { name: string; why: string }[] {
  const stale = [...allPartitions(view)].flatMap(({ partition }) => {
    const why = replicaOn(partition, node)?.why;
    const name = partitionName(view, partition);
    return why === undefined ? [] : [{ name, why: `${name} on node ${node} is stale: ${why}` }];
  });
  const failing = streams.failuresOf(node).map((failure) => {
    const name = failingPartition(view, failure) ?? failure.stream;
    return { name, why: describeFailure(view, failure) };
  });
  return [...failing, ...stale];
}

function isOf(failure: ApplyFailure, { tid, pid }: Partition): boolean {
  const ref = partitionIn(failure);
  return ref?.tid === tid && ref.pid === pid;
}
