import { expect, test } from 'vitest';
import type { ClusterView, LoadView } from '../../../src/catalog/model.ts';
import { allPartitions, partitionKey } from '../../../src/catalog/view.ts';
import { viewAfter } from '../../../src/placement/outcome.ts';
import { plan, planNext } from '../../../src/placement/plan.ts';
import { withAddedNodes, withDecommissioning } from '../../../src/placement/whatif.ts';
import { Script } from './script.ts';

function cluster(lines: string): { view: ClusterView; load: LoadView } {
  const script = new Script();
  for (const line of lines.trim().split('\n')) script.run(line.trim());
  return { view: script.view, load: script.load };
}

function placementOf(view: ClusterView) {
  return new Map(
    [...allPartitions(view)].map(({ partition: p }) => [
      partitionKey(p.tid, p.pid),
      { leader: p.leader, nodes: p.replicas.map((r) => r.node) },
    ]),
  );
}

const five = `
  node 1-5
  table acct partitions=12 replicas=3 on=1,2,3,4,5 mb=100
  table solo partitions=5 replicas=1 on=1,2,3,4,5 mb=7`;

test('a decommission that is cancelled, at any point, leads back to the configuration it started from', () => {
  const { view, load } = cluster(five);
  const placement = placementOf(view);
  const drained = plan(withDecommissioning(view, [2, 4]), load, { kind: 'balance' }).moves;
  expect(drained.length).toBeGreaterThan(10);
  for (let done = 0; done <= drained.length; done++) {
    const midway = viewAfter(view, drained.slice(0, done));
    const back = plan(midway, load, { kind: 'restore', placement });
    expect(back.blocked).toEqual([]);
    expect(placementOf(viewAfter(midway, back.moves))).toEqual(placement);
    expect(back.bytesMoved).toBe(back.bytesMinimal);
  }
});

test('what cannot go back says so', () => {
  const { view, load } = cluster(five);
  const placement = placementOf(view);
  const away = withDecommissioning(view, [2]);
  const drained = viewAfter(away, plan(away, load, { kind: 'repair' }).moves);
  const back = plan(drained, load, { kind: 'restore', placement });
  expect(back.moves).toEqual([]);
  expect(back.blocked[0]?.why).toBe('node 2 cannot take back acct 0: it is not an active, live node');
});

test('a replica that has to go stays as long as a stale one cannot stand in for it', () => {
  const { view, load } = cluster(`
    node 1-3
    table acct partitions=1 replicas=2 on=1,2 mb=100`);
  const placement = placementOf(view);
  const [acct] = [...view.tables.values()];
  const [partition] = acct?.partitions ?? [];
  if (!acct || !partition) throw new Error('no partition');
  const follower = partition.replicas.map((r) => r.node).find((n) => n !== partition.leader);
  const replicas = [
    ...partition.replicas.map((r) => (r.node === follower ? { ...r, state: 'stale' as const } : r)),
    { node: 3, state: 'ready' as const },
  ];
  const tables = new Map(view.tables).set(acct.tid, { ...acct, partitions: [{ ...partition, replicas }] });
  expect(plan({ ...view, tables }, load, { kind: 'restore', placement }).moves).toEqual([]);
});

test('a move that runs to a node which was dropped meanwhile is in nobody’s way', () => {
  const { view, load } = cluster(`
    node 1-4
    table acct partitions=4 replicas=2 on=1,2,3 mb=100`);
  const nodes = new Map(view.nodes);
  const gone = nodes.get(4);
  if (gone) nodes.set(4, { ...gone, state: 'decommissioned' });
  const move = { kind: 'move-replica', tid: 1, pid: 0, from: 1, to: 4, bytes: 0, reason: '' } as const;
  const next = planNext({ ...view, nodes }, load, { kind: 'repair' }, [{ operation: 1, move }]);
  expect(next.start).toEqual([]);
});

test('ten nodes more and ten fewer: close to the least bytes, even within 5 %', () => {
  const { view, load } = cluster(`
    node 1-100
    table big partitions=2000 replicas=3 on=1-100 mb=900
    table small partitions=1000 replicas=3 on=1-100 mb=40`);
  const more = withAddedNodes(view, load, 10);
  const added = plan(more.view, more.load, { kind: 'balance' });
  expect(added.bytesMoved / added.bytesMinimal).toBeLessThan(1.05);
  expect(added.after.replicas.maxPercent).toBeLessThan(5);
  expect(added.after.bytes.maxPercent).toBeLessThan(5.1);
  const fewer = plan(withDecommissioning(view, [1, 2, 3, 14, 25, 36, 47, 58, 69, 100]), load, { kind: 'balance' });
  expect(fewer.bytesMoved / fewer.bytesMinimal).toBeLessThan(1.05);
  const leftReplicas = fewer.after.nodes.filter((n) => n.replicas > 0).map((n) => n.replicas);
  expect(leftReplicas.length).toBe(90);
  for (const count of leftReplicas) expect(Math.abs(count - 100)).toBeLessThanOrEqual(5);
});

test('nodes that are only imagined are numbered on, have the median disk and even out the zones', () => {
  const { view, load } = cluster(`
    node 1-2 zone=a disk=100/50
    node 3 zone=b disk=300/50`);
  const more = withAddedNodes(view, load, 2);
  expect([...more.view.nodes.keys()]).toEqual([1, 2, 3, 4, 5]);
  expect(more.view.nodes.get(4)?.locality).toEqual([{ key: 'zone', value: 'b' }]);
  expect(more.load.nodes.get(4)).toEqual({ node: 4, alive: true, diskTotalBytes: 100e9, diskFreeBytes: 100e9 });
  expect(view.nodes.size).toBe(3);
});
