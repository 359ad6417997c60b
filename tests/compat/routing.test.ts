import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TableRecord } from '../../src/catalog/model.ts';
import { must } from '../../src/core/assert.ts';
import { HOME_QUESTION, type HomeTables, readHomeTables } from '../../src/gateway/servers/home-tables.ts';
import { freePorts } from '../../src/local/free-ports.ts';
import { prepareStore } from '../../src/node/store-dir.ts';
import { findBinaries } from '../../src/postgres/binaries.ts';
import { socketDirFor } from '../../src/postgres/config.ts';
import { ensureDataDir } from '../../src/postgres/initdb.ts';
import { bringDatabaseUpToDate } from '../../src/postgres/own-database.ts';
import { PostgresServer } from '../../src/postgres/server.ts';
import { sqlOf } from '../../src/postgres/sql/client.ts';
import { createReplica } from '../../src/postgres/sql/replica.ts';
import { createParent } from '../../src/postgres/sql/table.ts';
import { become, chooseUser } from '../../src/root/user.ts';
import { keyHash } from '../../src/routing/hash.ts';
import type { TopologyTable } from '../../src/routing/topology.ts';
import { loadParser } from '../../src/sql/parser.ts';
import { pointStatement } from '../../src/sql/point.ts';
import { KEY_VALUES } from '../support/key-values.ts';
import { ROUTED } from '../unit/sql/statements.ts';
import { findTable, TABLES } from '../unit/sql/tables.ts';

/** What is computed beside the server has to be what the server computes. */

let dir: string;
let server: PostgresServer;
let client: Client;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgtide-routing-'));
  const user = chooseUser();
  if (user !== null) {
    await chown(dir, user.uid, user.gid);
    become(user);
  }
  const binaries = await findBinaries();
  const store = await prepareStore(join(dir, 'store'));
  await ensureDataDir(store.pgdata, binaries);
  const [port] = (await freePorts(1)) as [number];
  const settings = { listenHosts: ['127.0.0.1'], socketDir: socketDirFor(store.run, port), port };
  server = new PostgresServer({ binaries, dataDir: store.pgdata, logFile: store.postgresLog, settings });
  await server.start();
  client = new Client({ host: '127.0.0.1', port, user: 'tide_manager', database: 'tide' });
  await client.connect();
});
afterAll(async () => {
  await client?.end();
  await server?.stop('immediate');
  await rm(dir, { recursive: true, force: true });
});

/** A prime, so that every bit counts; large, so that nothing fits by chance. */
const COUNT = 999_983;
const RUNS = 3000;

const digits = fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }).map(String);
const edges = [8n, 16n, 32n, 53n, 63n, 64n].flatMap((bits) =>
  [-1n, 0n, 1n].flatMap((off) => [
    String(2n ** (bits - 1n) + off),
    String(-(2n ** (bits - 1n)) + off),
    String(2n ** bits + off),
  ]),
);
const odd = fc.constantFrom(
  '',
  ' 12 ',
  '0x1f',
  '1_000',
  '+5',
  '-0',
  '007',
  '1e3',
  '5.0',
  '0b1',
  '0o7',
  '--1',
  'null',
  ' ',
  'x',
);
const integers = fc.oneof(
  fc.integer({ min: -70_000, max: 70_000 }).map(String),
  digits,
  fc.constantFrom(...edges),
  odd,
);
const two = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, '0'));
const years = fc.oneof(
  fc.integer({ min: 0, max: 9999 }).map((n) => String(n).padStart(4, '0')),
  fc.constantFrom('99', '12345', '-0001', '1999', '2000', '2001'),
);
const dates = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(years, two(13), two(32)).map((parts) => parts.join('-')) },
  fc.constantFrom(
    'infinity',
    '-infinity',
    'epoch',
    '2000-02-29',
    '1900-02-29',
    '0001-01-01',
    '9999-12-31',
    '2024-1-1',
    '1/2/2024',
    'J2451187',
    '2024-01-01 BC',
    '20240101',
  ),
);
const fraction = fc.oneof(fc.constantFrom('', '.'), fc.stringMatching(/^\.\d{1,7}$/));
const times = fc.tuple(dates, fc.constantFrom(' ', 'T', 't', '  '), two(24), two(60), two(60), fraction);
const points = times.map(([date, between, h, m, s, rest]) => `${date}${between}${h}:${m}:${s}${rest}`);
const zones = fc.oneof(
  fc.constantFrom(
    '',
    'Z',
    'z',
    ' Z',
    '+00',
    '-00',
    '+15:59',
    '+14:00',
    '-12',
    '+0530',
    ' UTC',
    ' Europe/Berlin',
    '+05:30:15',
    '-99',
  ),
  fc.tuple(fc.constantFrom('+', '-'), two(15), two(60)).map(([sign, h, m]) => `${sign}${h}:${m}`),
);
const hex = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const noZero = fc.string({ unit: 'binary', maxLength: 60 }).map((text) => text.replaceAll('\0', '0'));
const uuids = fc.oneof(
  { weight: 5, arbitrary: fc.uuid() },
  fc.uuid().map((u) => u.toUpperCase()),
  fc.uuid().map((u) => `{${u}}`),
  fc.uuid().map((u) => u.replaceAll('-', '')),
  fc.uuid().map((u) => u.replace('-', '').replace(/(.{4})$/, '-$1')),
  odd,
);

const TYPES: [type: string, texts: fc.Arbitrary<string>][] = [
  ['smallint', integers],
  ['integer', integers],
  ['bigint', integers],
  ['oid', integers],
  ['text', noZero],
  ['character varying', noZero],
  ['character varying(12)', noZero],
  ['uuid', uuids],
  ['boolean', fc.oneof(fc.constantFrom('t', 'f', 'true', 'false', 'TRUE', 'yes', 'on', '1', '0', ' t', 'tru'), odd)],
  [
    'bytea',
    fc.oneof(
      hex.map((h) => `\\x${h}`),
      hex.map((h) => `\\x${h.toUpperCase()}`),
      hex,
      odd,
      fc.constantFrom('\\x0', '\\x 00', '\\000a'),
    ),
  ],
  ['date', dates],
  [
    'timestamp without time zone',
    fc.oneof(
      points,
      dates,
      fc.tuple(points, zones).map((p) => p.join('')),
    ),
  ],
  [
    'timestamp with time zone',
    fc.oneof({ weight: 4, arbitrary: fc.tuple(points, zones).map((p) => p.join('')) }, points, dates),
  ],
];

describe('partitions of keys', () => {
  it('are as the unit tests have them', async () => {
    for (const [type, text, pid] of KEY_VALUES) {
      await client.query(`DROP TABLE IF EXISTS keyed; CREATE TABLE keyed (k ${type}) PARTITION BY HASH (k)`);
      const asked = `select satisfies_hash_partition('keyed'::regclass, ${COUNT}, $1, $2::${type}) as is`;
      expect([type, text, (await client.query(asked, [pid, text])).rows]).toEqual([type, text, [{ is: true }]]);
    }
  });

  it.each(TYPES)('of type %s', async (type, arbitrary) => {
    const texts = fc.sample(arbitrary, { numRuns: RUNS, seed: 18 });
    const hash = must(keyHash(type), type);
    await client.query(`DROP TABLE IF EXISTS keyed; CREATE TABLE keyed (k ${type}) PARTITION BY HASH (k)`);
    const { rows: senders } = await client.query(
      `select typsend::text as send from pg_type where oid = '${type}'::regtype`,
    );
    // Whoever sends it has settings of its own.
    await client.query(`SET datestyle = 'German'; SET timezone = 'America/St_Johns'; SET intervalstyle = 'iso_8601'`);
    const { rows } = await client.query<{ v: string; binary: Buffer | null }>(
      `select v, case when pg_input_is_valid(v, '${type}') then ${senders[0].send}(v::${type}) end as binary
         from unnest($1::text[]) with ordinality given(v, ord) order by ord`,
      [texts],
    );
    const judged = rows.map(({ v, binary }) => {
      // Amid other bytes, as in a message.
      const message = Buffer.from(`5${v}5`);
      const ofText = hash.partition(COUNT, message, 1, message.length - 1, false);
      const ofBinary =
        binary &&
        hash.partition(
          COUNT,
          Buffer.concat([message, binary, message]),
          message.length,
          message.length + binary.length,
          true,
        );
      return { v, ofText, ofBinary };
    });
    expect(judged.filter(({ ofText, ofBinary }) => ofText !== null && ofText !== ofBinary)).toEqual([]);
    const taken = rows.flatMap(({ v, binary }, i) => (binary === null ? [] : [{ v, pid: judged[i]?.ofBinary }]));
    const { rows: wrong } = await client.query(
      `select v, pid from unnest($1::text[], $2::int[]) given(v, pid)
        where satisfies_hash_partition('keyed'::regclass, ${COUNT}, pid, v::${type}) is not true`,
      [taken.map((t) => t.v), taken.map((t) => t.pid)],
    );
    expect(wrong).toEqual([]);
    expect(judged.filter(({ ofText }) => ofText !== null).length).toBeGreaterThan(100);
  });
});

/** A table of which this node leads everything, with defaults where there may be some. */
function recordOf({ columns, partitions, primaryKey, ...table }: TopologyTable): TableRecord {
  const defaults: Record<string, string> = {
    name: "'nobody'::text",
    at: 'now()',
    balance: '1.5',
    note: "'none'::text",
  };
  const definition = {
    columns: columns.map((c) => ({ ...c, default: c.name === table.distributeBy ? null : (defaults[c.name] ?? null) })),
    primaryKey,
    checks: [],
    indexes: [],
  };
  const led = partitions.map((p) => ({ ...p, replicas: [{ node: 1, state: 'ready' as const }] }));
  return { ...table, definition, partitionCount: led.length, replicaCount: 1, partitions: led };
}

/** Of each type that a parameter can have. */
const VALUES: Record<string, string> = {
  bigint: '5',
  integer: '5',
  smallint: '5',
  numeric: '5',
  text: 'a@b.de',
  'character varying': 'abc',
  'timestamp with time zone': '2026-11-30 19:42:00+00',
  boolean: 't',
  uuid: '7a1f4a3e-3d3c-4ed5-8f5d-0d6c6a9e2b11',
  date: '2026-11-30',
};

async function valuesFor(text: string): Promise<string[]> {
  await client.query(`PREPARE probe AS ${text}`);
  const { rows } = await client.query(
    `select format_type(t, null) as type from pg_prepared_statements, unnest(parameter_types::oid[]) with ordinality u(t, ord)
      where name = 'probe' order by ord`,
  );
  await client.query('DEALLOCATE probe');
  return rows.map(({ type }) => must(VALUES[type], type));
}

/** What a statement gives, and what the table holds afterwards; nothing of it stays. */
async function played(text: string, values: string[], table: string): Promise<unknown> {
  await client.query('BEGIN');
  try {
    // The rows that it would make are not there yet.
    if (/^insert/i.test(text)) await client.query(`DELETE FROM ${table}`);
    const { rows, fields, rowCount, command } = await client.query({ text, values, rowMode: 'array' });
    const after = await client.query({ text: `SELECT t::text FROM ${table} t ORDER BY 1`, rowMode: 'array' });
    return { rows, fields: fields.map((f) => [f.name, f.dataTypeID]), rowCount, command, after: after.rows };
  } catch (error) {
    return String(error);
  } finally {
    await client.query('ROLLBACK');
  }
}

describe('point statements', () => {
  beforeAll(async () => {
    await loadParser();
    await bringDatabaseUpToDate(1, server.port);
    const tables = TABLES.filter(({ state }) => state === 'ready').map(recordOf);
    for (const table of tables) {
      for (const { pid } of table.partitions) await createReplica(sqlOf(client), table, pid);
      await createParent(sqlOf(client), 1, table);
    }
    await client.query(`
      SET search_path = public;
      SET datestyle = 'ISO';
      SET timezone = 'UTC';
      INSERT INTO acct SELECT k, 'a', 2.5, '2026-11-30', true, '{}', 3
        FROM unnest('{-9223372036854775808,-5,0,5,9,31,42,5000000000}'::bigint[]) k;
      INSERT INTO person VALUES ('a@b.de', 5), ('', 1), ('abc', 2);
      INSERT INTO doc VALUES ('7a1f4a3e-3d3c-4ed5-8f5d-0d6c6a9e2b11', 'x');
      INSERT INTO flag VALUES (true), (false);
      INSERT INTO day VALUES ('2026-11-30');
      INSERT INTO small VALUES (5), (7);
      INSERT INTO short VALUES ('abc');
      INSERT INTO "Odd ""name""" VALUES (5);
      INSERT INTO u VALUES (5)`);
  });

  it.each(ROUTED)('%s: the hinge answers as the table does', async (text) => {
    const statement = pointStatement(text, findTable);
    if ('because' in statement) throw new Error(statement.because);
    const values = await valuesFor(text);
    const { key, keyType, tid } = statement;
    const value = Buffer.from('literal' in key ? key.literal : must(values[key.parameter - 1], 'a value'));
    const pid = must(keyHash(keyType), keyType).partition(4, value, 0, value.length, false);
    const { name } = must(
      TABLES.find((t) => t.tid === tid),
      'table',
    );
    const table = `public."${name.replaceAll('"', '""')}"`;
    const there = (await played(text, values, table)) as { command?: string };
    const rewritten = statement.on(`tide_hinge.t${tid}_p${pid}`);
    const here = (await played(rewritten, values, table)) as { command?: string; after: unknown };
    expect(there.command, JSON.stringify(there)).toBeDefined();
    if (statement.kind === 'read') expect(here).toEqual(there);
    expect(timeless(here)).toEqual(timeless(there));
  });
});

describe('what home is asked', () => {
  const asTide = async (...texts: string[]) => {
    // Behind the fence, as a node's own clients come.
    const host = must(server.options.settings.socketDir, 'socket');
    const session = new Client({ host, port: server.port, user: 'tide', database: 'tide' });
    await session.connect();
    try {
      for (const text of texts) await session.query(text);
      const { rows } = await session.query({ text: HOME_QUESTION, rowMode: 'array' });
      return readHomeTables(must(rows[0], 'row')[0]);
    } finally {
      await session.end();
    }
  };
  const acctOf = (home: HomeTables) => must(home.tables.get(4), 'acct');

  it('its tables, by their numbers, and what one may do with them', async () => {
    // Clients are in it.
    const OWNER = 'SET ROLE tide_owner';
    const { rows } = await client.query("select 'public.acct'::regclass::oid::int8 as oid");
    const ordinary = { oid: Number(must(rows[0], 'row').oid), isSameEverywhere: true, mayRead: true, mayWrite: true };
    expect(acctOf(await asTide(OWNER))).toEqual(ordinary);
    await client.query('REVOKE UPDATE ON public.acct FROM tide_owner');
    expect(acctOf(await asTide(OWNER))).toEqual({ ...ordinary, mayWrite: false });
    await client.query('REVOKE SELECT ON public.acct FROM tide_owner');
    expect(acctOf(await asTide(OWNER))).toEqual({ ...ordinary, mayRead: false, mayWrite: false });
    await client.query('GRANT ALL ON public.acct TO tide_owner');
    expect(acctOf(await asTide(OWNER))).toEqual(ordinary);
  });

  it('a default that depends on who asks, or where', async () => {
    const defaults = [
      ['note', "'a'", true],
      ['note', 'current_user', false],
      ['note', 'inet_server_port()::text', false],
      ['note', "'it''s'", true],
    ] as const;
    for (const [column, value, isSame] of defaults) {
      await client.query(`SET tide.internal = on; ALTER TABLE public.flag ALTER ${column} SET DEFAULT ${value}`);
      expect((await asTide()).tables.get(7)?.isSameEverywhere, value).toBe(isSame);
    }
  });

  it('what somebody has made that could be taken for something else', async () => {
    const home = await asTide(
      'CREATE SCHEMA mine',
      'CREATE VIEW mine.acct AS SELECT 1 AS id',
      "CREATE FUNCTION mine.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
      'CREATE OPERATOR mine.|| (FUNCTION = texticlike, LEFTARG = text, RIGHTARG = text)',
    );
    expect([...(home.others.get('acct') ?? [])]).toEqual(['mine']);
    expect(home.userNames.has('lower') && home.userNames.has('||')).toBe(true);
    expect(home.userNames.has('upper')).toBe(false);
    await client.query('DROP SCHEMA mine CASCADE');
  });
});

/** Each is played in a transaction of its own, and so has its own moment for a default. */
function timeless(outcome: unknown): unknown {
  return JSON.parse(JSON.stringify(outcome).replaceAll(/\d{4}-\d\d-\d\d[ T][\d:.]+(Z|\+00)?/g, 'then'));
}
