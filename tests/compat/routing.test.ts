import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { freePorts } from '../../src/local/free-ports.ts';
import { prepareStore } from '../../src/node/store-dir.ts';
import { findBinaries } from '../../src/postgres/binaries.ts';
import { socketDirFor } from '../../src/postgres/config.ts';
import { ensureDataDir } from '../../src/postgres/initdb.ts';
import { PostgresServer } from '../../src/postgres/server.ts';
import { become, chooseUser } from '../../src/root/user.ts';
import { keyHash } from '../../src/routing/hash.ts';

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
