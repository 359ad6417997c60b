import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { OWN_ROLES, TIDE_MANAGER } from '../../src/postgres/config.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { inSession } from '../support/session.ts';
import { eventually, expectReplicasEqual, expectSettled, startNodes } from './support/proof.ts';

/**
 * Who may do what (ADR 0012): clients are ordinary roles, and what reaches a distributed table on one node
 * only is refused, whoever asks.
 */

const KEYS = 60;
const GUARDED = 'TD002';
const FORBIDDEN = '42501';

let cluster: LocalCluster;
let nodes: number[];

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  for (const name of ['acct', 's.t'])
    await createTable(cluster, `CREATE TABLE ${name} (id bigint PRIMARY KEY, note text)`, {
      partitions: 6,
      replicas: 2,
    });
  await cluster.sql(1).query(`INSERT INTO acct SELECT n, 'n' FROM generate_series(1, ${KEYS}) n`);
  for (const node of nodes) {
    await cluster.sql(node).query(`
      CREATE TABLE plain (id int PRIMARY KEY, note text);
      CREATE SCHEMA own; CREATE TABLE own.plain (id int PRIMARY KEY);
      CREATE PUBLICATION mine FOR TABLE plain;
      CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN; CREATE ROLE nobody LOGIN;
      GRANT SELECT ON acct TO reader;
      GRANT SELECT, INSERT, UPDATE, DELETE ON acct TO writer`);
    await cluster.manager(node).query('CREATE ROLE dba LOGIN SUPERUSER');
  }
});
afterAll(() => cluster?.close());

async function as<T>(user: string, node: number, port: Port, work: (client: pg.Client) => Promise<T>) {
  const { host, address, postgresPort } = cluster.node(node);
  const at = port === 'listen' ? Number(address.split(':')[1]) : postgresPort;
  return inSession({ host, port: at, user, database: 'tide' }, work);
}

/** SQLSTATE of what a statement ends with, in a transaction that is rolled back; `ok`. */
async function outcome(client: pg.Client, sql: string): Promise<string> {
  await client.query('BEGIN');
  try {
    await client.query(sql);
    return 'ok';
  } catch (error) {
    return (error as pg.DatabaseError).code ?? String(error);
  } finally {
    await client.query('ROLLBACK');
  }
}

type Port = 'listen' | 'postgres';
const PORTS: readonly Port[] = ['listen', 'postgres'];

async function outcomes(user: string, statements: readonly string[], ports = PORTS): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = Object.fromEntries(statements.map((s) => [s, []]));
  for (const node of nodes)
    for (const port of ports)
      await as(user, node, port, async (client) => {
        for (const sql of statements) must(found[sql], sql).push(await outcome(client, sql));
      });
  return found;
}

const everywhere = (statements: readonly string[], wanted: string, ports: number = PORTS.length) =>
  Object.fromEntries(statements.map((s) => [s, Array(nodes.length * ports).fill(wanted)]));

/** What changes a distributed table on one node. */
const ONE_NODE = [
  'ALTER TABLE acct ADD COLUMN extra int',
  'ALTER TABLE acct DROP COLUMN note',
  'ALTER TABLE acct RENAME TO accounts',
  'ALTER TABLE acct RENAME COLUMN note TO text',
  "ALTER TABLE acct ALTER COLUMN note SET DEFAULT ''",
  'ALTER TABLE acct ADD CHECK (id > 0)',
  'ALTER TABLE acct SET SCHEMA own',
  'ALTER TABLE acct OWNER TO tide',
  'ALTER TABLE acct ENABLE ROW LEVEL SECURITY',
  'ALTER TABLE acct DISABLE TRIGGER ALL',
  'ALTER TABLE acct DETACH PARTITION tide_hinge.t1_p0',
  'CREATE INDEX ON acct (note)',
  'CREATE TABLE tide_data.mine (id int)',
  'CREATE VIEW tide_hinge.mine AS SELECT 1',
  'CREATE EXTENSION citext SCHEMA tide_data',
  'DROP FOREIGN DATA WRAPPER tide_keeps_owner',
  'CREATE STATISTICS st ON id, note FROM acct',
  'CREATE RULE r AS ON INSERT TO acct DO INSTEAD NOTHING',
  'CREATE POLICY p ON acct USING (id > 10)',
  'CREATE TRIGGER t BEFORE INSERT ON acct FOR EACH ROW EXECUTE FUNCTION suppress()',
  "COMMENT ON TABLE acct IS 'x'",
  "COMMENT ON COLUMN acct.note IS 'x'",
  'CREATE PUBLICATION theirs FOR TABLE acct',
  'ALTER PUBLICATION mine ADD TABLE acct',
  'ALTER PUBLICATION mine SET TABLE plain, s.t',
  'ALTER SCHEMA s RENAME TO other',
  'ALTER SCHEMA s OWNER TO tide',
  'ALTER SCHEMA public RENAME TO other',
  'DROP TABLE acct',
  'DROP TABLE acct CASCADE',
  'DROP SCHEMA s CASCADE',
  'DROP SCHEMA public CASCADE',
  'DROP OWNED BY tide_owner CASCADE',
];

/** Ways past the guard that do not lead past it. */
const TRICKS = [
  'SET tide.internal = on; ALTER TABLE acct ADD COLUMN extra int',
  `CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN ALTER TABLE acct ADD COLUMN extra int; END'; SELECT f()`,
  'CREATE SCHEMA trick; SET search_path = trick, public; CREATE TABLE trick.pg_class (oid oid); ALTER TABLE public.acct ADD COLUMN extra int',
  `CREATE FUNCTION pg_temp.eq(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT true';
   CREATE OPERATOR pg_temp.= (LEFTARG = name, RIGHTARG = name, FUNCTION = pg_temp.eq); ALTER TABLE acct ADD COLUMN extra int`,
  'CREATE TEMP TABLE pg_namespace (oid oid); ALTER TABLE acct ADD COLUMN extra int',
  `DO 'BEGIN ALTER TABLE acct ADD COLUMN extra int; END'`,
  'REVOKE ALL ON acct FROM tide_owner; ALTER TABLE acct ADD COLUMN extra int',
];

/** What only a superuser may, or whoever owns what is pgtide's. */
const NOT_FOR_CLIENTS = [
  "COPY plain FROM PROGRAM 'echo 1'",
  "COPY plain TO '/tmp/pgtide-should-not-be'",
  "SELECT pg_read_file('postgresql.conf')",
  "SELECT pg_ls_dir('.')",
  "SELECT lo_import('/etc/passwd')",
  'SELECT pg_reload_conf()',
  'CHECKPOINT',
  'CREATE ROLE boss SUPERUSER',
  'CREATE ROLE boss REPLICATION',
  'CREATE ROLE boss BYPASSRLS',
  'ALTER ROLE tide SUPERUSER',
  'SET session_replication_role = replica',
  'SET event_triggers = off',
  'ALTER DATABASE tide SET session_replication_role = replica',
  'SET ROLE tide_owner',
  'SET ROLE tide_manager',
  'SET ROLE tide_bootstrap',
  'SET SESSION AUTHORIZATION tide_manager',
  'GRANT tide_owner TO reader',
  'GRANT tide_manager TO tide',
  'ALTER ROLE tide_manager PASSWORD $$x$$',
  'DROP ROLE tide_peer',
  'DROP OWNED BY tide_peer',
  'ALTER EVENT TRIGGER tide_refuse_ddl DISABLE',
  'DROP EVENT TRIGGER tide_refuse_ddl',
  'CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION tide.refuse_ddl()',
  `CREATE OR REPLACE FUNCTION tide.refuse_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'`,
  'DROP FUNCTION tide.attaches() CASCADE',
  'ALTER FUNCTION tide.attaches() VOLATILE',
  'DELETE FROM tide.distributed',
  'DROP TABLE tide.distributed',
  'UPDATE tide.marker SET value = 0',
  'CREATE TABLE tide.mine (id int)',
  'DROP SCHEMA tide CASCADE',
  'ALTER SCHEMA tide_data RENAME TO other',
  'REVOKE USAGE ON SCHEMA tide_hinge FROM tide_peer CASCADE; SELECT FROM tide_hinge.t1_p0',
  'SELECT * FROM tide_data.t1_p0',
  'INSERT INTO tide_hinge.t1_p0 VALUES (1)',
  'ALTER TABLE tide_data.t1_p0 DISABLE TRIGGER tide_guard',
  'REVOKE ALL ON ALL TABLES IN SCHEMA tide_hinge FROM tide_peer',
  'SELECT tide.await_marker(1, 0, 0)',
  'REASSIGN OWNED BY tide_owner TO tide',
  'DROP FOREIGN DATA WRAPPER postgres_fdw',
  'CREATE SERVER mine FOREIGN DATA WRAPPER postgres_fdw',
  'CREATE PUBLICATION theirs FOR ALL TABLES',
  'CREATE PUBLICATION theirs FOR TABLES IN SCHEMA public',
  "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
  'CREATE EXTENSION file_fdw',
  'CREATE EXTENSION citext; ALTER EXTENSION citext SET SCHEMA tide_data',
  `CREATE FUNCTION c() RETURNS int LANGUAGE c AS 'x'`,
];

/** Clients go on as they did. */
const ALLOWED = [
  'CREATE TABLE fine (id int PRIMARY KEY, a text); CREATE INDEX ON fine (a); ALTER TABLE fine ADD b int; COMMENT ON TABLE fine IS $$x$$; DROP TABLE fine',
  'CREATE POLICY p ON plain USING (true); CREATE RULE r AS ON INSERT TO plain DO INSTEAD NOTHING; ALTER TABLE plain ENABLE ROW LEVEL SECURITY',
  'CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION suppress(); DROP TRIGGER t ON plain',
  'CREATE STATISTICS st ON id, note FROM plain; DROP STATISTICS st',
  'CREATE PUBLICATION theirs FOR TABLE own.plain; DROP PUBLICATION theirs; DROP PUBLICATION mine',
  'ALTER SCHEMA own RENAME TO other; DROP SCHEMA other CASCADE',
  'CREATE TABLE s.fine (id int); DROP TABLE s.fine',
  'CREATE VIEW v AS SELECT * FROM acct; SELECT count(*) FROM v; GRANT SELECT ON v TO nobody; DROP VIEW v',
  'CREATE MATERIALIZED VIEW v AS SELECT * FROM acct; REFRESH MATERIALIZED VIEW v; DROP MATERIALIZED VIEW v',
  `CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN d AS int CHECK (value > 0); CREATE SEQUENCE q; SELECT nextval('q')`,
  'CREATE EXTENSION citext; CREATE TABLE ci (t citext); DROP EXTENSION citext CASCADE',
  'CREATE EXTENSION pgcrypto',
  'CREATE TEMP TABLE tmp AS SELECT * FROM acct; DROP TABLE tmp',
  'CREATE ROLE app LOGIN PASSWORD $$x$$; GRANT SELECT ON acct TO app; ALTER ROLE app SET work_mem = 8192; REVOKE ALL ON acct FROM app; DROP ROLE app',
  'GRANT USAGE ON SCHEMA s TO nobody; GRANT ALL ON s.t TO nobody; REVOKE ALL ON s.t FROM nobody',
  'ALTER DATABASE tide SET work_mem = 8192',
  'ALTER ROLE tide SET statement_timeout = 0',
  'SELECT lo_unlink(lo_create(0))',
  'LISTEN a; NOTIFY a',
  'LOCK TABLE acct IN ACCESS EXCLUSIVE MODE',
  'LOCK TABLE acct IN SHARE MODE; SELECT count(*) FROM acct',
  'ANALYZE acct',
  'REINDEX TABLE plain',
  'SELECT * FROM acct ORDER BY id FOR UPDATE',
  "INSERT INTO acct SELECT n, 'x' FROM generate_series(1001, 1060) n; UPDATE acct SET note = 'y' WHERE id > 1000; DELETE FROM acct WHERE id > 1000",
  'COPY (SELECT * FROM acct) TO STDOUT',
  'TRUNCATE s.t; INSERT INTO s.t VALUES (1)',
  'SELECT relid::regclass FROM tide.distributed',
];

describe('tide, as whom clients come', () => {
  it('is told why a statement would reach one node only', async () => {
    expect(await outcomes('tide', ONE_NODE)).toEqual({
      ...everywhere(ONE_NODE, GUARDED),
      // It names what no client gets to.
      'ALTER TABLE acct DETACH PARTITION tide_hinge.t1_p0': Array(6).fill(FORBIDDEN),
    });
    const error = await cluster
      .sql(1)
      .query('CREATE POLICY p ON acct USING (true)')
      .catch((e: pg.DatabaseError) => e);
    expect(error).toMatchObject({
      message: 'CREATE POLICY on p on public.acct has to be the same on every node, and this statement would reach one',
      hint: expect.stringContaining('tide table create'),
    });
  });

  it('gets past the guard by no trick', async () => {
    expect(await outcomes('tide', TRICKS)).toEqual(everywhere(TRICKS, GUARDED));
  });

  it('is no superuser', async () => {
    expect(await outcomes('tide', NOT_FOR_CLIENTS)).toEqual(everywhere(NOT_FOR_CLIENTS, FORBIDDEN));
    for (const sql of [
      'ALTER SYSTEM SET work_mem = 65536',
      'CREATE DATABASE other',
      'DROP DATABASE tide',
      'ALTER DATABASE tide RENAME TO other',
    ])
      await expect(cluster.sql(1).query(sql), sql).rejects.toMatchObject({ code: /42501|55006|0A000/ });
    for (const node of nodes)
      await as('tide', node, 'postgres', async () => {
        const other = new pg.Client({
          host: '127.0.0.1',
          port: cluster.node(node).postgresPort,
          user: 'tide',
          database: 'postgres',
        });
        other.on('error', () => {});
        await expect(other.connect()).rejects.toMatchObject({ code: FORBIDDEN });
      });
  });

  it('does all the rest as before', async () => {
    expect(await outcomes('tide', ALLOWED)).toEqual(everywhere(ALLOWED, 'ok'));
    for (const node of nodes) await cluster.sql(node).query('VACUUM acct');
    await expectSettled(cluster, nodes);
  });
});

it('other superusers pass no guard either', async () => {
  const statements = [
    'ALTER TABLE acct ADD COLUMN extra int',
    'CREATE PUBLICATION theirs FOR ALL TABLES',
    'CREATE PUBLICATION theirs FOR TABLES IN SCHEMA public',
    'CREATE PUBLICATION theirs FOR TABLES IN SCHEMA s',
    'CREATE TABLE tide_data.mine (id int)',
    'ALTER TABLE tide_data.t1_p0 ENABLE ALWAYS TRIGGER tide_guard',
    'DROP TRIGGER tide_guard ON tide_data.t1_p0',
    'CREATE RULE r AS ON INSERT TO tide_hinge.t1_p0 DO INSTEAD NOTHING',
    'ALTER SCHEMA tide_data RENAME TO other',
    'DROP SCHEMA tide_hinge CASCADE',
    'DROP EXTENSION postgres_fdw CASCADE',
    'DROP FUNCTION tide.attaches() CASCADE',
  ];
  // Every replica's table is on two nodes of three.
  const found = await outcomes('dba', statements, ['postgres']);
  for (const [sql, ended] of Object.entries(found))
    expect(
      ended.filter((code) => code !== GUARDED && code !== '42P01'),
      sql,
    ).toEqual([]);
  const own = nodes.flatMap((n) => nodes.filter((o) => o !== n).map((o) => [n, o] as const));
  for (const [node, other] of own)
    await as('dba', node, 'postgres', async (client) => {
      for (const sql of [
        `ALTER SERVER tide_n${other} OPTIONS (SET fetch_size '1')`,
        `DROP SERVER tide_n${other} CASCADE`,
        `ALTER USER MAPPING FOR PUBLIC SERVER tide_n${other} OPTIONS (SET user 'dba')`,
        `DROP USER MAPPING FOR PUBLIC SERVER tide_n${other}`,
        `ALTER PUBLICATION tide_to_${other} SET (publish = 'insert')`,
        `DROP PUBLICATION tide_to_${other}`,
        `ALTER SUBSCRIPTION tide_${other}_${node} SET (binary = false)`,
      ])
        expect(await outcome(client, sql), sql).toBe(GUARDED);
    });
});

it("the listen port lets in nobody by a name of pgtide's own", async () => {
  for (const user of OWN_ROLES)
    for (const node of nodes)
      await expect(
        as(user, node, 'listen', async () => {}),
        `${user} through node ${node}`,
      ).rejects.toMatchObject({
        code: '28000',
        message: expect.stringContaining("pgtide's own"),
      });
  await expect(as('tide_bootstrap', 1, 'postgres', async () => {})).rejects.toMatchObject({ code: '28000' });
  await expect(as('tide_owner', 1, 'postgres', async () => {})).rejects.toMatchObject({ code: '28000' });
});

describe('a role that exists on all nodes', () => {
  const rows = 'SELECT count(*)::int AS n FROM acct';
  it('reads what it was granted through every node, and nothing else', async () => {
    for (const node of nodes)
      for (const port of PORTS)
        await as('reader', node, port, async (client) => {
          expect((await client.query(rows)).rows).toEqual([{ n: KEYS }]);
          expect((await client.query('SELECT id::int FROM acct ORDER BY id LIMIT 2')).rows).toEqual([
            { id: 1 },
            { id: 2 },
          ]);
          for (const sql of [
            "UPDATE acct SET note = 'x'",
            'DELETE FROM acct',
            'TRUNCATE acct',
            'SELECT * FROM s.t',
            'SELECT * FROM acct FOR UPDATE',
          ])
            expect(await outcome(client, sql), sql).toBe(FORBIDDEN);
          expect(await outcome(client, 'CREATE POLICY p ON acct USING (true)')).toBe(FORBIDDEN);
        });
  });

  it('writes as far as tide does', async () => {
    let id = 10_000;
    for (const node of nodes)
      for (const port of PORTS)
        await as('writer', node, port, async (client) => {
          const [from, to] = [id, id + 19];
          id += 20;
          await client.query("INSERT INTO acct SELECT n, 'w' FROM generate_series($1::int, $2::int) n", [from, to]);
          await client.query("UPDATE acct SET note = 'v' WHERE id BETWEEN $1 AND $2", [from, to]);
          const { rows: seen } = await client.query("SELECT count(*)::int AS n FROM acct WHERE note = 'v'");
          expect(seen).toEqual([{ n: 20 }]);
          await client.query('DELETE FROM acct WHERE id BETWEEN $1 AND $2', [from, to]);
          expect(await outcome(client, 'TRUNCATE acct')).toBe(FORBIDDEN);
          expect(await outcome(client, 'UPDATE acct SET id = id + 100000')).toBe('TD003');
        });
    expect((await cluster.sql(2).query(rows)).rows).toEqual([{ n: KEYS }]);
  });

  it('without a grant gets nothing anywhere', async () => {
    for (const node of nodes)
      for (const port of PORTS)
        await as('nobody', node, port, async (client) => {
          for (const sql of [
            'SELECT * FROM acct',
            'INSERT INTO acct VALUES (0)',
            'SELECT * FROM tide_data.t1_p0',
            'SELECT * FROM tide_hinge.t1_p0',
          ])
            expect(await outcome(client, sql), sql).toBe(FORBIDDEN);
        });
  });

  it('reads on where the owner has closed the database to everybody but those who are named', async () => {
    for (const node of nodes)
      await cluster
        .sql(node)
        .query('GRANT CONNECT ON DATABASE tide TO reader; REVOKE CONNECT ON DATABASE tide FROM PUBLIC');
    for (const node of nodes) {
      await as('reader', node, 'listen', async (client) =>
        expect((await client.query(rows)).rows).toEqual([{ n: KEYS }]),
      );
      await expect(as('nobody', node, 'listen', async () => {})).rejects.toMatchObject({ code: FORBIDDEN });
      await cluster.sql(node).query('GRANT CONNECT ON DATABASE tide TO PUBLIC');
    }
  });

  it('goes on across a change of leader and a node that joins', async () => {
    await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
    const { id } = await cluster.addNode();
    nodes.push(id);
    await cluster.sql(id).query('CREATE ROLE reader LOGIN; GRANT SELECT ON acct TO reader');
    for (const pid of [0, 1, 2]) {
      const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'acct', pid, to: 'auto' });
      await cluster.waitForOperation(must(operations[0], 'operation'));
    }
    for (const node of nodes)
      await as('reader', node, 'listen', async (client) =>
        expect((await client.query(rows)).rows).toEqual([{ n: KEYS }]),
      );
    await as('tide', id, 'listen', async (client) => {
      expect(await outcome(client, 'CREATE POLICY p ON acct USING (true)')).toBe(GUARDED);
      expect(await outcome(client, "COPY acct TO PROGRAM 'true'")).toBe(FORBIDDEN);
    });
  });
});

describe('connections', () => {
  const ROOM = 20;
  it('clients of the PostgreSQL port take none of those that are for other nodes and for pgtide', async () => {
    const [node = 0, other = 0] = [nodes[1], nodes[2]];
    // 100 are for other nodes and 40 for pgtide.
    await cluster.manager(node).query(`ALTER SYSTEM SET max_connections = ${140 + ROOM}`);
    await cluster.node(node).stop();
    await cluster.node(node).restart();
    const { host, postgresPort: port } = cluster.node(node);
    const inside: pg.Client[] = [];
    const enter = async () => {
      const client = new pg.Client({ host, port, user: 'tide', database: 'tide' });
      client.on('error', () => {});
      await client.connect();
      inside.push(client);
    };
    try {
      let refused: unknown;
      for (let tries = 0; tries < 2 * ROOM && refused === undefined; tries++) await enter().catch((e) => (refused = e));
      expect(refused).toMatchObject({ code: '53300' });
      expect(inside.length).toBeGreaterThan(ROOM / 2);
      // A new session of another node's gets in, and so does the manager.
      await as('tide', other, 'postgres', async (client) => {
        expect((await client.query('SELECT count(*)::int AS n FROM acct')).rows).toEqual([{ n: KEYS }]);
      });
      await as(TIDE_MANAGER, node, 'postgres', (client) => client.query('SELECT 1'));
      const status = await cluster.admin({ do: 'node-status' });
      expect(status.find((n) => n.id === node)?.isLive).toBe(true);
    } finally {
      await Promise.all(inside.map((client) => client.end()));
    }
  });
});

it('leaves replicas equal, and nothing behind', async () => {
  // The node that joined gets its share meanwhile.
  await eventually(async () => {
    expect((await cluster.admin({ do: 'op-ls' })).filter((o) => o.endedAt === null)).toEqual([]);
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  }, 60_000);
});
