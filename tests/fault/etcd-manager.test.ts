import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { monotonicMs, readLeaseNote } from '../../src/node/node-lease.ts';
import { EtcdStore } from '../../src/store/etcd-store.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { untilLogged } from '../support/node-log.ts';
import { hold, untilEnded, untilStep } from '../support/operations.ts';
import { LOAD_TABLE, Load, PARTITIONS } from './support/load.ts';
import { expectSettled } from './support/settled.ts';

const NODES = [1, 2, 3];
/** Its own lease, the silence of the old one, and two shared cores. */
const TAKE_OVER_MS = 15_000;

let etcd: EtcdCluster;
let cluster: LocalCluster;
let load: Load;
const takeOversMs: number[] = [];

async function leader(through: number): Promise<{ node: number; term: number }> {
  const { managers } = await cluster.admin({ do: 'manager-ls' }, { node: through });
  const { node, term } = must(
    managers.find((m) => m.role === 'leader'),
    'leader',
  );
  return { node, term: must(term, 'term') };
}

const otherThan = (node: number) =>
  must(
    NODES.find((n) => n !== node),
    'another node',
  );

/** Who manages, once that is not `before` any more. Every answer may be "nobody yet". */
async function nextLeader(before: { node: number; term: number }): Promise<{ node: number; term: number }> {
  const through = otherThan(before.node);
  let now = before;
  await expect
    .poll(
      async () => {
        now = await leader(through).catch(() => before);
        return now.term;
      },
      { timeout: TAKE_OVER_MS, interval: 50 },
    )
    .toBeGreaterThan(before.term);
  return now;
}

/**
 * Until every node's lease has (nearly) its whole length before it again: renewals failed while etcd had no
 * leader.
 */
async function leasesRenewed(): Promise<void> {
  const leftMs = async (node: number) => {
    const note = await readLeaseNote(join(cluster.node(node).store, 'lease'));
    return (note?.untilMs ?? 0) - monotonicMs();
  };
  for (const node of NODES) await expect.poll(() => leftMs(node), { timeout: TAKE_OVER_MS }).toBeGreaterThan(6_000);
}

/** A move of a leader that stops before its swing until `release`. */
async function heldMove(): Promise<{ id: number; release: () => Promise<void> }> {
  const rows = await cluster.admin({ do: 'partition-ls', table: 'load' });
  const {
    pid,
    node: from,
    tid,
  } = must(
    rows.find((r) => r.role === 'leader'),
    'a leader',
  );
  const to = must(
    rows.find((r) => r.pid === pid && r.role === 'follower'),
    'a follower',
  ).node;
  const holder = await hold(cluster.node(from).postgresPort, `SELECT count(*) FROM tide_hinge.t${tid}_p${pid}`);
  const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'load', pid, to });
  const id = must(operations[0], 'operation');
  await untilStep(cluster, id, 'swing');
  return { id, release: () => holder.end() };
}

const settled = () => expectSettled(cluster, load, NODES);

describe.skipIf(ETCD === null)('several managers', () => {
  beforeAll(async () => {
    etcd = await EtcdCluster.start(3);
    cluster = await LocalCluster.create();
    for (const _ of NODES) await cluster.addNode({ flags: [`--meta=${etcd.url('/managers')}`] });
    await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
    // Their own process is away for longer than ten seconds here, and that is not what is tested.
    await cluster.admin({ do: 'setting-set', key: 'node.lease', value: '60' });
    await createTable(cluster, LOAD_TABLE, { partitions: PARTITIONS, replicas: 2 });
    load = await Load.prepare(cluster, 1);
  });

  afterAll(async () => {
    if (takeOversMs.length > 0) process.stdout.write(`take-overs of the manager, ms: ${takeOversMs.join(' ')}\n`);
    await load?.close();
    await cluster?.close();
    await etcd?.close();
  });

  test('a manager that is killed with an operation under way is replaced, and the operation goes on', async () => {
    const before = load.acknowledged;
    load.start(NODES);
    const old = await leader(1);
    const move = await heldMove();
    load.expect({ through: [old.node], pids: [] });
    const killedMs = performance.now();
    await cluster.node(old.node).kill();
    const now = await nextLeader(old);
    takeOversMs.push(Math.round(performance.now() - killedMs));
    expect(now.node).not.toBe(old.node);
    const op = await cluster.admin({ do: 'op-show', id: move.id }, { node: now.node });
    expect(op.endedAt).toBeNull();
    await move.release();
    expect((await untilEnded(cluster, move.id)).status).toBe('done');
    await cluster.node(old.node).restart();
    load.expect(null);
    await settled();
    expect(load.acknowledged - before).toBeGreaterThan(100);
  });

  test('a manager that is frozen for longer than its lease does nothing when it wakes', async () => {
    const before = load.acknowledged;
    load.start(NODES);
    const old = await leader(1);
    const move = await heldMove();
    load.expect({ through: [old.node], pids: [] });
    await cluster.node(old.node).kill('SIGSTOP');
    const now = await nextLeader(old);
    await move.release();
    // Not asked of the frozen one, which would not answer.
    const status = async () => (await cluster.admin({ do: 'op-show', id: move.id }, { node: now.node })).status;
    await expect.poll(status, { timeout: 30_000, interval: 100 }).toBe('done');
    const events = (await cluster.admin({ do: 'events' }, { node: now.node })).at(-1)?.seq;
    await cluster.node(old.node).kill('SIGCONT');
    await untilLogged(cluster.node(old.node).store, (l) => l.msg.includes('does not manage the cluster any more'));
    // Whom it asks it now hands to the new one.
    await expect.poll(() => leader(old.node).catch(() => null), { timeout: 10_000 }).toEqual(now);
    for (const node of NODES) {
      // It announces itself with its first session there, and has one with every node that is alive.
      const term = () => cluster.manager(node).query('SELECT term::int FROM tide.manager_term');
      await expect.poll(async () => (await term()).rows, { timeout: 10_000 }).toEqual([{ term: now.term }]);
      const { rows } = await cluster
        .manager(node)
        .query(`SELECT application_name FROM pg_stat_activity WHERE application_name = 'pgtide manager ${old.term}'`);
      expect(rows).toEqual([]);
    }
    const later = await cluster.admin({ do: 'events', after: must(events, 'event') }, { node: now.node });
    expect(later.filter((e) => e.kind.startsWith('operation-'))).toEqual([]);
    load.expect(null);
    await settled();
    expect(load.acknowledged - before).toBeGreaterThan(50);
  });

  test('a manager whose operation somebody else has written gives the seat up, and the operation goes on', async () => {
    load.start(NODES);
    const old = await leader(1);
    const move = await heldMove();
    const store = EtcdStore.at(etcd.url('/managers'));
    const { key, value } = must(await store.get(`/op/${String(move.id).padStart(10, '0')}`), 'operation');
    await store.txn({ when: [], write: [{ put: key, value }] });
    await store.close();
    // It finds out when it writes what the operation has come to.
    await move.release();
    expect((await nextLeader(old)).term).toBeGreaterThan(old.term);
    expect((await untilEnded(cluster, move.id)).status).toBe('done');
    await settled();
  });

  test('etcd: a server may die, the leader too; without a majority data is served until the leases end', async () => {
    await cluster.admin({ do: 'setting-set', key: 'node.lease', value: '10' });
    const first = await leader(1);
    const led = async () =>
      (await cluster.admin({ do: 'partition-ls' })).flatMap((r) => (r.role === 'leader' ? [[r.pid, r.node]] : []));
    const leaders = await led();
    const before = load.acknowledged;
    load.start(NODES);

    const leading = await etcd.leader();
    await etcd.signal((leading + 1) % 3);
    await sleep(1_000);
    expect(await leader(2)).toEqual(first);
    etcd.startMember((leading + 1) % 3);
    await etcd.untilReady();

    await etcd.signal(await etcd.leader());
    const killedMs = performance.now();
    await cluster.admin({ do: 'setting-set', key: 'move.concurrency', value: '3' }, { node: 2 });
    expect(performance.now() - killedMs).toBeLessThan(TAKE_OVER_MS);
    for (const member of [0, 1, 2]) if (!etcd.runs(member)) etcd.startMember(member);
    await etcd.untilReady();

    await leasesRenewed();

    // A majority that is away for less than the lease: nobody who reads or writes notices.
    for (const member of [0, 1]) await etcd.signal(member, 'SIGSTOP');
    await sleep(2_000);
    for (const member of [0, 1]) await etcd.signal(member, 'SIGCONT');
    await etcd.untilReady();
    await expect.poll(() => leader(1).catch(() => null), { timeout: TAKE_OVER_MS }).not.toBeNull();
    expect(load.failures).toEqual([]);
    expect(load.acknowledged - before).toBeGreaterThan(100);

    // For longer: every node lets nobody in, nothing is decided, and all is there again afterwards.
    const pids = leaders.map(([pid]) => must(pid, 'pid'));
    load.expect({ through: NODES, pids });
    for (const member of [0, 1]) await etcd.signal(member, 'SIGSTOP');
    const refused = (node: number) =>
      cluster
        .postgres(node)
        .query('SELECT 1')
        .then(
          () => 'served',
          () => 'refused',
        );
    await expect
      .poll(() => Promise.all(NODES.map(refused)), { timeout: 20_000, interval: 100 })
      .toEqual(NODES.map(() => 'refused'));
    await expect(cluster.admin({ do: 'node-status' }, { node: 2 })).rejects.toMatchObject({
      code: 'NO_MANAGER_ELECTED',
      message: expect.stringContaining('etcd does not answer'),
    });
    for (const member of [0, 1]) await etcd.signal(member, 'SIGCONT');
    const conditions = async () => (await cluster.admin({ do: 'node-status' })).map((n) => n.condition);
    await expect
      .poll(() => conditions().catch(() => []), { timeout: 30_000, interval: 200 })
      .toEqual(NODES.map(() => 'live'));
    await load.untilAcknowledged(20);
    load.expect(null);
    await load.untilAcknowledged(20);
    await settled();
    expect(await led()).toEqual(leaders);
    expect((await cluster.admin({ do: 'events' })).filter((e) => e.kind === 'failover')).toEqual([]);
  });
});
