import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partitionTable, subscriptionName } from '../../src/catalog/names.ts';
import { TIDE_DATABASE, TIDE_MANAGER } from '../../src/postgres/config.ts';
import type { Sql } from '../../src/postgres/sql/client.ts';
import { dropSlot } from '../../src/postgres/sql/slots.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { eventually, expectReplicasEqual, expectSettled, holdersOf, keyIn, startNodes } from './support/proof.ts';

/**
 * Apply needs no lock that a client's transaction can hold: rows reach followers while somebody has locked
 * the table, wherever, and a transaction that has, and whose commit waits for a follower, does not wait for
 * itself.
 */

const PARTITIONS = 4;
const REPLICAS = 2;
/** A commit that waits for itself waits for ever. */
const BOUND_MS = 20_000;
let cluster: LocalCluster;
let nodes: number[];
let tid: number;
const table = 'locked';
/** Keys that nobody has used yet. */
let next = 1_000;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  const options = { partitions: PARTITIONS, replicas: REPLICAS };
  ({ tid } = await createTable(cluster, `CREATE TABLE ${table} (id bigint PRIMARY KEY, v text)`, options));
});
afterAll(() => cluster?.close());

/** Fails, instead of the whole test, where `work` does not come back. */
async function bounded<T>(work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} has not come back in ${BOUND_MS} ms`)), BOUND_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** One session on a node; it is closed hard, whatever it waits for. */
async function withSession<T>(node: number, work: (session: pg.Client) => Promise<T>): Promise<T> {
  const { host, port, user, database } = cluster.sql(node).options;
  const session = new pg.Client({ host, port, user, database });
  session.on('error', () => {});
  await session.connect();
  try {
    return await work(session);
  } finally {
    void session.end().catch(() => {});
  }
}

async function rowsAt(node: number, pid: number, id: number): Promise<number> {
  const name = `tide_data.${partitionTable(tid, pid)}`;
  return (await cluster.manager(node).query(`SELECT FROM ${name} WHERE id = $1`, [id])).rowCount ?? 0;
}

describe('a table that a client has locked', () => {
  it.each([0, 1, 2, 3])(
    'gets rows to the follower of partition %i, whichever other node holds the lock',
    async (pid) => {
      const { leader, followers } = await holdersOf(cluster, table, pid);
      const [follower = 0] = followers;
      expect(followers).toHaveLength(REPLICAS - 1);
      const held = nodes.filter((n) => n !== leader);
      expect(held).toContain(follower);
      for (const node of held) {
        // Asking for a key opens the table, too.
        const ids: number[] = [];
        while (ids.length < 3)
          ids.push(await keyIn(cluster, { tid, table }, PARTITIONS, pid, (ids.at(-1) ?? next) + 1));
        next = Math.max(...ids);
        await withSession(node, async (holder) => {
          await bounded(holder.query(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`), 'LOCK TABLE');
          for (const id of ids) {
            // It waits for the follower: that it comes back is the proof.
            const insert = cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, 'x')`, [id]);
            await bounded(insert, `a commit on node ${leader} while node ${node} has the table locked`);
            await eventually(async () => expect(await rowsAt(follower, pid, id)).toBe(1), BOUND_MS);
          }
          const { rows } = await holder.query(
            `SELECT count(*)::int AS locks FROM pg_locks WHERE pid = pg_backend_pid() AND relation = '${table}'::regclass
              AND mode = 'AccessExclusiveLock' AND granted`,
          );
          expect(rows[0].locks).toBe(1);
          await holder.query('ROLLBACK');
        });
      }
    },
  );

  const TRANSACTIONS: [what: string, statements: (id: number) => string[]][] = [
    ['TRUNCATE', (id) => [`TRUNCATE ${table}`, `INSERT INTO ${table} VALUES (${id}, 'a')`]],
    [
      'LOCK TABLE',
      (id) => [`LOCK TABLE ${table}`, `INSERT INTO ${table} SELECT n, 'b' FROM generate_series(${id}, ${id + 40}) n`],
    ],
    [
      'TRUNCATE after a savepoint',
      (id) => ['SAVEPOINT a', `TRUNCATE ${table}`, 'RELEASE a', `INSERT INTO ${table} VALUES (${id}, 'c')`],
    ],
    [
      'TRUNCATE and LOCK TABLE that were taken back',
      (id) => [
        'SAVEPOINT a',
        `TRUNCATE ${table}`,
        `LOCK TABLE ${table}`,
        'ROLLBACK TO a',
        `INSERT INTO ${table} VALUES (${id}, 'd')`,
      ],
    ],
    [
      'INSERT, TRUNCATE and INSERT between savepoints',
      (id) => [
        `INSERT INTO ${table} VALUES (${id}, 'e')`,
        'SAVEPOINT a',
        `TRUNCATE ${table}`,
        'SAVEPOINT b',
        `INSERT INTO ${table} SELECT n, 'f' FROM generate_series(${id}, ${id + 40}) n`,
      ],
    ],
  ];

  it.each(TRANSACTIONS)('%s and INSERT in one transaction come back through every node', async (what, statements) => {
    for (const node of nodes) {
      const id = next;
      next += 100;
      const all = ['BEGIN', ...statements(id), 'COMMIT'];
      await withSession(node, async (session) => {
        for (const text of all) await bounded(session.query(text), `${what} through node ${node}: ${text}`);
      });
      for (const reader of nodes) {
        const { rows } = await cluster.sql(reader).query(`SELECT count(*)::int AS n FROM ${table} WHERE id = $1`, [id]);
        expect(rows[0].n, `through node ${reader}`).toBe(1);
      }
    }
    expect(await expectReplicasEqual(cluster)).toBe(PARTITIONS * (REPLICAS - 1));
  });
});

/** What PostgreSQL says of a replica that a session of the manager's kind attaches, and does not. */
async function attaching(node: number, pid: number, user: string): Promise<string[]> {
  const { host, port } = cluster.postgres(node).options;
  const session = new pg.Client({ host, port, user, database: TIDE_DATABASE });
  const said: string[] = [];
  session.on('notice', (notice) => said.push(notice.message ?? ''));
  await session.connect();
  try {
    const name = partitionTable(tid, pid);
    await session.query('SET client_min_messages = debug1; BEGIN; SET LOCAL lock_timeout = 5000');
    await session.query(`ALTER TABLE tide_hinge.${name} DETACH PARTITION tide_data.${name}`);
    await session.query(
      `ALTER TABLE tide_hinge.${name} ATTACH PARTITION tide_data.${name} FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
    );
    await session.query('ROLLBACK');
    return said;
  } finally {
    await session.end();
  }
}

it('a slot is dropped although its receiver is there and comes back at once', async () => {
  const { leader = 0, followers } = await holdersOf(cluster, table, 0);
  const [follower = 0] = followers;
  const slot = subscriptionName(leader, follower);
  const sender: Sql = { query: async (text, values) => (await cluster.manager(leader).query(text, values)).rows };
  for (let round = 0; round < 5; round++) {
    // The receiver is started anew at once where its last start is longer ago than
    // `wal_retrieve_retry_interval`.
    await eventually(async () => {
      const { rows } = await cluster.manager(leader).query(
        `SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'
            AND clock_timestamp() - backend_start > interval '2 s'`,
        [slot],
      );
      expect(rows).toHaveLength(1);
    });
    await dropSlot(sender, slot);
  }
  await expectSettled(cluster, nodes);
  await expectReplicasEqual(cluster);
});

describe('the constraint that spares ATTACH its scan', () => {
  const implied = (pid: number) =>
    `partition constraint for table "${partitionTable(tid, pid)}" is implied by existing constraints`;

  it('is proved in sessions of a manager', async () => {
    const { leader } = await holdersOf(cluster, table, 0);
    expect(await attaching(leader, 0, TIDE_MANAGER)).toContain(implied(0));
  });

  it('takes the place of what version 0.1.0 has made, under load, and moves go on', async () => {
    const constraints = async (node: number) => {
      const { rows } = await cluster.postgres(node).query<{ name: string; valid: boolean }>(
        `SELECT c.conname AS name, bool_and(c.convalidated) AS valid FROM pg_constraint c
          WHERE c.connamespace = 'tide_data'::regnamespace AND c.contype = 'c' GROUP BY 1 ORDER BY 1`,
      );
      return rows;
    };
    const held = new Map(await Promise.all(nodes.map(async (n) => [n, await makeOld(n)] as const)));
    expect([...held.values()].reduce((a, b) => a + b)).toBe(PARTITIONS * REPLICAS);
    let ended = false;
    let writes = 0;
    const load = nodes.map(async (node) => {
      while (!ended) {
        await bounded(cluster.sql(node).query(`INSERT INTO ${table} VALUES ($1, 'g')`, [next++]), 'a write');
        writes += 1;
      }
    });
    try {
      for (const node of nodes)
        await eventually(
          async () => expect(await constraints(node)).toEqual([{ name: 'tide_partition', valid: true }]),
          60_000,
        );
    } finally {
      ended = true;
      await Promise.all(load);
    }
    expect(writes).toBeGreaterThan(0);
    const { leader } = await holdersOf(cluster, table, 1);
    expect(await attaching(leader, 1, TIDE_MANAGER)).toContain(implied(1));
    const { operations } = await cluster.admin({ do: 'partition-change-leader', table, pid: 1, to: 'auto' });
    await cluster.waitForOperation(operations[0] ?? 0);
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  });

  /**
   * Gives every replica of a node the constraints of version 0.1.0 instead of its own; the number of
   * replicas.
   */
  async function makeOld(node: number): Promise<number> {
    const { host, port } = cluster.postgres(node).options;
    const session = new pg.Client({
      host,
      port,
      user: TIDE_MANAGER,
      database: TIDE_DATABASE,
    });
    await session.connect();
    try {
      const { rows } = await session.query<{ name: string }>(
        `SELECT relname AS name FROM pg_class WHERE relnamespace = 'tide_data'::regnamespace AND relkind = 'r'`,
      );
      for (const { name } of rows) {
        const pid = Number(name.split('_p')[1]);
        const oids = await session.query<{ parent: number; hinge: number }>(
          `SELECT '${table}'::regclass::oid AS parent, 'tide_hinge.${name}'::regclass::oid AS hinge`,
        );
        const { parent, hinge } = oids.rows[0] ?? { parent: 0, hinge: 0 };
        await session.query(
          `ALTER TABLE tide_data.${name} DROP CONSTRAINT tide_partition,
             ADD CONSTRAINT tide_of_table CHECK (satisfies_hash_partition('${parent}'::oid, ${PARTITIONS}, ${pid}, id)),
             ADD CONSTRAINT tide_of_hinge CHECK (satisfies_hash_partition('${hinge}'::oid, 1, 0, id))`,
        );
      }
      return rows.length;
    } finally {
      await session.end();
    }
  }
});
