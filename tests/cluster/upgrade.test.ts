import { execFile, execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { chooseUser } from '../../src/root/user.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { played } from '../support/matrix.ts';
import { inSession } from '../support/session.ts';
import { Load } from './support/load.ts';
import { eventually, expectReplicasEqual, expectSettled } from './support/proof.ts';
import { tide } from './support/tide.ts';
import { buildOldVersion, NO_HISTORY } from './support/version-0.1.0.ts';

/**
 * From 0.1.0, where everybody was the superuser `tide`, node after node, under load: it ends with clients
 * that are ordinary roles.
 */

/** The manager last, and first. */
const ORDERS = [
  [3, 2, 1],
  [1, 2, 3],
];
const orders = played(ORDERS, (_, index) => index === 0);
const TEST_MS = 300_000;

let old: ReturnType<typeof buildOldVersion>;
let cluster: LocalCluster | null = null;
let load: Load | null = null;

beforeAll(() => {
  old = buildOldVersion();
  if (old === null) process.stderr.write(`${NO_HISTORY}\n`);
}, TEST_MS);
afterEach(async () => {
  await load?.stop();
  await cluster?.close();
  [load, cluster] = [null, null];
});
afterAll(() => {
  if (old !== null) rmSync(old.dir, { recursive: true, force: true });
});

/** What clients of 0.1.0 have made on a node, of every kind, beside what all nodes have. */
const THEIRS = `
  CREATE TABLE plain (id serial PRIMARY KEY, note text); INSERT INTO plain (note) SELECT 'n' FROM generate_series(1, 10);
  CREATE SCHEMA own; CREATE TABLE own.parts (id int) PARTITION BY LIST (id); CREATE TABLE own.part PARTITION OF own.parts DEFAULT;
  CREATE VIEW seen AS SELECT * FROM acct; CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain; CREATE SEQUENCE counter;
  CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
  CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
  CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
  CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
  CREATE OPERATOR CLASS mine FOR TYPE int USING hash AS OPERATOR 1 =;
  CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (a int, b int); CREATE DOMAIN positive AS int CHECK (value > 0);
  CREATE TYPE spans AS RANGE (subtype = float8);
  CREATE COLLATION plainly FROM "C"; CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
  CREATE STATISTICS notes ON id, note FROM plain;
  CREATE PUBLICATION mine FOR TABLE plain; CREATE PUBLICATION every FOR ALL TABLES;
  CREATE EXTENSION citext; CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
  SELECT lo_create(4711);
  CREATE FUNCTION noop() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
  CREATE EVENT TRIGGER theirs ON ddl_command_end EXECUTE FUNCTION noop();
  CREATE ROLE member LOGIN; GRANT tide TO member; CREATE ROLE boss SUPERUSER;
  GRANT SELECT ON plain, seen TO app;
  ALTER ROLE tide SET work_mem = '8MB'; ALTER ROLE tide IN DATABASE tide SET statement_timeout = '1h'`;

/** And can take away as ordinary roles. */
const TAKEN_AWAY = [
  'DROP VIEW seen; DROP MATERIALIZED VIEW kept; DROP SEQUENCE counter; DROP PUBLICATION mine',
  'DROP STATISTICS notes; ALTER TABLE plain ADD more int; DROP TABLE plain; DROP SCHEMA own CASCADE',
  'DROP FUNCTION twice; DROP PROCEDURE nothing; DROP AGGREGATE total(int); DROP OPERATOR === (int, int)',
  'DROP OPERATOR CLASS mine USING hash; DROP OPERATOR FAMILY IF EXISTS mine USING hash',
  'DROP TYPE mood; DROP TYPE pair; DROP DOMAIN positive; DROP TYPE spans; DROP COLLATION plainly; DROP TEXT SEARCH CONFIGURATION words',
  'DROP SERVER files; SELECT lo_unlink(4711)',
  'ALTER ROLE app SET work_mem = 8192; ALTER ROLE app RESET work_mem',
];

const NODES = [1, 2, 3];

async function inDatabase(node: number, database: string, sql: string): Promise<pg.QueryResult> {
  const { host, postgresPort } = must(cluster, 'cluster').node(node);
  return inSession({ host, port: postgresPort, user: 'tide', database }, (client) => client.query(sql));
}

async function isSuperuser(at: LocalCluster, node: number): Promise<boolean> {
  const { rows } = await at.manager(node).query("SELECT rolsuper FROM pg_roles WHERE rolname = 'tide'");
  return rows[0].rolsuper;
}

const run = async (at: LocalCluster, through: number, ...args: string[]) =>
  expect(await tide(at, through, ...args), args.join(' ')).toMatchObject({ status: 0 });

/** The node as another program, prepared as for any planned stop. */
async function exchange(at: LocalCluster, traffic: Load, node: number, program: string): Promise<void> {
  const other = must(
    NODES.find((n) => n !== node),
    'another node',
  );
  traffic.nodes = NODES.filter((n) => n !== node);
  await run(at, other, 'node', 'drain', String(node));
  await at.node(node).stop();
  // What 0.1.0 makes where root started it belongs to root.
  const user = chooseUser();
  if (user !== null && program === LocalCluster.program)
    execFileSync('chown', ['-hR', `${user.uid}:${user.gid}`, at.node(node).store]);
  const before = traffic.writes.length;
  await at.node(node).restart([], program);
  expect(traffic.writes.length, `writes while node ${node} was away`).toBeGreaterThan(before);
  await run(at, other, 'node', 'undrain', String(node));
  traffic.nodes = [...NODES];
}

/** While some nodes are of one version and some of the other. */
async function expectAllWorks(at: LocalCluster, name: string): Promise<void> {
  await createTable(at, `CREATE TABLE ${name} (id bigint PRIMARY KEY)`, { partitions: 3, replicas: 2 });
  for (const node of NODES)
    await at.sql(node).query(`INSERT INTO ${name} SELECT n FROM generate_series(${node}00, ${node}09) n`);
  for (const pid of [0, 1, 2]) {
    // An undrain may be at it still.
    await eventually(async () => {
      const { operations } = await at.admin({ do: 'partition-change-leader', table: name, pid, to: 'auto' });
      await at.waitForOperation(must(operations[0], 'operation'));
    });
  }
  for (const node of NODES)
    expect((await at.sql(node).query(`SELECT count(*)::int AS n FROM ${name}`)).rows).toEqual([{ n: 30 }]);
}

test.for(orders)('node %i, then %i, then %i', { timeout: TEST_MS }, async (order, context) => {
  if (old === null) return context.skip(NO_HISTORY);
  const at = await LocalCluster.create();
  cluster = at;
  for (let started = 0; started < NODES.length; started++) await at.addNode({ program: old.program });
  const traffic = await Load.prepare(at, {
    table: 'acct',
    nodes: NODES,
    partitions: 6,
    replicas: 2,
    writers: 2,
    readers: 1,
  });
  load = traffic;
  await at.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  for (const node of NODES) await at.sql(node).query('CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON acct TO app');
  await at.sql(1).query(THEIRS);
  await at.sql(1).query('CREATE DATABASE elsewhere');
  await inDatabase(1, 'elsewhere', 'CREATE TABLE there AS SELECT 1 AS id; CREATE SCHEMA more');
  traffic.start();

  const [first = 0, , last = 0] = order;
  for (const node of order.slice(0, 2)) {
    await exchange(at, traffic, node, LocalCluster.program);
    await expectAllWorks(at, `mixed_${node}`);
    // Whoever manages may not know of it.
    expect((await at.sql(node).query('SHOW NODES')).rows).toMatchObject([{ id: 1 }, { id: 2 }, { id: 3 }]);
  }
  // Nothing is taken from anybody yet, and there is a way back.
  for (const node of NODES) expect(await isSuperuser(at, node), `node ${node}`).toBe(true);
  await exchange(at, traffic, first, old.program);
  await expectAllWorks(at, 'back');
  await exchange(at, traffic, first, LocalCluster.program);
  for (const node of NODES) expect(await isSuperuser(at, node), `node ${node}`).toBe(true);
  expect(traffic.failures).toEqual([]);

  await exchange(at, traffic, last, LocalCluster.program);
  const kinds = async () => (await at.admin({ do: 'events', limit: 1_000 })).map((e) => e.kind);
  await eventually(
    async () => expect((await kinds()).filter((k) => k === 'clients-weakened')).toHaveLength(NODES.length),
    60_000,
  );
  expect((await kinds()).filter((k) => k === 'roles-separated')).toHaveLength(1);
  await eventually(async () => {
    for (const node of NODES)
      expect(JSON.parse(readFileSync(join(at.node(node).store, 'node.json'), 'utf8'))).toMatchObject({
        formatVersion: 2,
      });
  });
  await expectOrdinaryClients(at);
  await expectAllWorks(at, 'after');
  const { id } = await at.addNode();
  expect(await isSuperuser(at, id)).toBe(false);
  await at
    .sql(id)
    .query('CREATE POLICY p ON back USING (true)')
    .then(
      () => expect.unreachable(),
      (error) => expect(error).toMatchObject({ code: 'TD002' }),
    );

  await traffic.stop();
  load = null;
  // Sessions of superusers end once.
  expect(traffic.failures.filter((f) => !/57P01|[Cc]onnection terminated/.test(f))).toEqual([]);
  expect(traffic.incomplete).toEqual([]);
  expect(traffic.done.transactions).toBeGreaterThan(100);
  for (const node of [...NODES, id]) {
    const { rows } = await at.sql(node).query('SELECT id, value, writes FROM acct');
    const found = new Map(rows.map((r) => [Number(r.id), { value: String(r.value), writes: Number(r.writes) }]));
    expect([...traffic.ledger.lost(found)], `acknowledged writes through node ${node}`).toEqual([]);
  }
  await expectReplicasEqual(at);
  await expectSettled(at, [...NODES, id]);
  await expectOldProgramRefused(at, first);
  for (const name of ['mixed_1', 'mixed_2', 'mixed_3', 'back', 'after', 'acct'].filter((n) => n !== `mixed_${last}`)) {
    // A repair may be at it: the node that has joined, and the one that was refused, are news.
    await eventually(async () => {
      const { operation } = await at.admin({ do: 'table-drop', table: name });
      await at.waitForOperation(operation);
    }, 60_000);
  }
});

async function expectOrdinaryClients(at: LocalCluster): Promise<void> {
  for (const node of NODES) {
    const { rows: left } = await at.manager(node).query(
      `SELECT pg_describe_object(s.classid, s.objid, 0) AS what FROM (
         SELECT 'pg_class'::regclass AS classid, oid AS objid, relowner AS owner FROM pg_class WHERE relkind <> 't' AND relkind <> 'i' AND relkind <> 'I'
         UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
         UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace
         UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner FROM pg_publication
         UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
         UNION ALL SELECT 'pg_database'::regclass, oid, datdba FROM pg_database WHERE datname NOT LIKE 'template_' AND datname <> 'postgres') s
        WHERE s.owner = 10 AND s.objid >= 16384
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype = 'e')`,
    );
    expect(left, `node ${node}`).toEqual([]);
    // An apply worker goes on as whom it began until it hears of its subscription's new owner.
    const inside = () =>
      at.manager(node).query(
        `SELECT (SELECT count(*)::int FROM pg_class WHERE relnamespace::regnamespace::text ~ '^tide_' AND relkind IN ('r', 'p', 'f') AND relowner <> 'tide_owner'::regrole) AS others,
              (SELECT string_agg(concat_ws(' ', backend_type, application_name, state, query), ', ') FROM pg_stat_activity WHERE usename = 'tide_bootstrap' AND backend_type <> 'logical replication launcher') AS inside,
              (SELECT string_agg(subname, ', ') FROM pg_subscription WHERE subowner = 10) AS subscriptions,
              (SELECT count(*)::int FROM pg_stat_replication WHERE usename <> 'tide_stream') AS streams`,
      );
    await eventually(async () =>
      expect((await inside()).rows, `node ${node}`).toEqual([
        { others: 0, inside: null, subscriptions: null, streams: 0 },
      ]),
    );
    const { host, postgresPort: port } = at.node(node);
    const app = new pg.Client({ host, port, user: 'app', database: 'tide' });
    await app.connect();
    expect((await app.query('SELECT count(*)::int AS n FROM acct WHERE id <= 0')).rows).toEqual([{ n: 1_000 }]);
    await app.end();
    await expect(at.sql(node).query("COPY acct FROM PROGRAM 'true'")).rejects.toMatchObject({ code: '42501' });
    // Of a table that nobody uses: what a refused ALTER TABLE has locked by then could be a deadlock of the
    // load's.
    await expect(at.sql(node).query('SET tide.internal = on; ALTER TABLE back ADD COLUMN a int')).rejects.toMatchObject(
      { code: 'TD002' },
    );
  }
  const session = await at.sql(1).connect();
  const shown = await session.query(
    "SELECT current_setting('work_mem') AS mem, current_setting('statement_timeout') AS timeout, current_setting('search_path') AS path",
  );
  expect(shown.rows).toEqual([{ mem: '8MB', timeout: '1h', path: 'public' }]);
  expect((await session.query('SELECT count(*)::int AS n FROM seen WHERE id <= 0')).rows).toEqual([{ n: 1_000 }]);
  await expectMember(at);
  try {
    for (const sql of TAKEN_AWAY) await session.query(sql);
  } finally {
    session.release(true);
  }
  await inDatabase(1, 'elsewhere', 'ALTER TABLE there ADD more int; DROP SCHEMA more; DROP TABLE there');
}

/** Whoever was granted `tide` is what that is now. */
async function expectMember(at: LocalCluster): Promise<void> {
  const { host, postgresPort: port } = at.node(1);
  const member = new pg.Client({ host, port, user: 'member', database: 'tide' });
  await member.connect();
  await member.query('SET ROLE tide');
  for (const role of ['tide_bootstrap', 'tide_manager', 'tide_owner'])
    await expect(member.query(`SET ROLE ${role}`)).rejects.toMatchObject({ code: '42501' });
  await member.end();
}

async function expectOldProgramRefused(at: LocalCluster, node: number): Promise<void> {
  await at.node(node).stop();
  const { store } = at.node(node);
  const refused = await new Promise<string>((resolve) => {
    const args = [must(old, 'old version').program, 'start', `--store=${store}`, '--insecure', '--join=127.0.0.1:1'];
    execFile(process.execPath, args, { timeout: 60_000 }, (_error, _stdout, stderr) => resolve(stderr));
  });
  expect(refused).toContain('STORE_TOO_NEW');
  await at.node(node).restart();
}
