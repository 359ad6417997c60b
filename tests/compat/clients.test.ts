import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { createTable, LocalCluster, type LocalNode } from '../support/cluster.ts';

const PSQL = '/usr/bin/psql';
const PGBENCH = ['/usr/bin/pgbench', '/usr/lib/postgresql/15/bin/pgbench'].find((file) => existsSync(file));
const ROWS = 5_000;
const run = promisify(execFile);

let cluster: LocalCluster;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (let started = 0; started < 3; started++) await cluster.addNode();
  await createTable(
    cluster,
    `CREATE TABLE acct (id bigint PRIMARY KEY, name text NOT NULL, balance numeric(12,2) DEFAULT 0, at timestamptz DEFAULT now(), tags text[], facts jsonb)`,
    { partitions: 8, replicas: 2 },
  );
  await cluster
    .postgres(1)
    .query(
      `INSERT INTO acct (id, name, tags, facts) SELECT i, 'n' || i, ARRAY['a', 'b'], '{"k": 1}' FROM generate_series(1, $1) i`,
      [ROWS],
    );
});

afterAll(async () => {
  await cluster?.close();
});

/** What a client connects to: the listen port of every node, and every PostgreSQL itself. */
function endpoints(): { where: string; port: number }[] {
  return cluster.nodes.flatMap((node) => [
    { where: `listen port of node ${node.id}`, port: listenPort(node) },
    { where: `PostgreSQL of node ${node.id}`, port: node.postgresPort },
  ]);
}

function listenPort(node: LocalNode): number {
  return Number(node.address.split(':')[1]);
}

async function everywhere(work: (client: pg.Client, at: number) => Promise<void>): Promise<void> {
  for (const [at, { port }] of endpoints().entries()) {
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'tide', database: 'tide' });
    await client.connect();
    try {
      await work(client, at);
    } finally {
      await client.end();
    }
  }
}

test('simple and extended queries, types, transactions and savepoints', async () => {
  await everywhere(async (client, at) => {
    const several = (await client.query("SELECT 1 AS a; SELECT 'x' AS b")) as unknown as pg.QueryResult[];
    expect(several.map((result) => result.rows)).toEqual([[{ a: 1 }], [{ b: 'x' }]]);
    const { rows } = await client.query('SELECT name, tags, facts FROM acct WHERE id = $1', [7 + at]);
    expect(rows).toEqual([{ name: `n${7 + at}`, tags: ['a', 'b'], facts: { k: 1 } }]);
    for (let round = 0; round < 8; round++) {
      const named = { name: 'by-id', text: 'SELECT id FROM acct WHERE id = $1', values: [round + 1] };
      expect((await client.query(named)).rows).toEqual([{ id: String(round + 1) }]);
    }
    await client.query('BEGIN');
    await client.query('UPDATE acct SET balance = balance + 1 WHERE id = 1');
    await client.query('SAVEPOINT s');
    await expect(client.query('INSERT INTO acct (id, name) VALUES (2, $1)', ['twice'])).rejects.toMatchObject({
      code: '23505',
    });
    await client.query('ROLLBACK TO s');
    await client.query('COMMIT');
    const balance = await client.query<{ balance: string }>('SELECT balance FROM acct WHERE id = 1');
    expect(Number(balance.rows[0]?.balance)).toBe(at + 1);
  });
});

test('joins, aggregates and window functions over all partitions', async () => {
  await everywhere(async (client) => {
    const { rows } = await client.query(
      `SELECT count(*)::int AS n, count(DISTINCT a.name)::int AS names, max(b.id)::int AS top
         FROM acct a JOIN acct b ON b.id = a.id + 1 WHERE a.id <= $1`,
      [ROWS - 1],
    );
    expect(rows).toEqual([{ n: ROWS - 1, names: ROWS - 1, top: ROWS }]);
    const ranked = await client.query('SELECT id, rank() OVER (ORDER BY id DESC) FROM acct WHERE id <= $1 LIMIT 2', [
      ROWS,
    ]);
    expect(ranked.rows).toEqual([
      { id: String(ROWS), rank: '1' },
      { id: String(ROWS - 1), rank: '2' },
    ]);
  });
});

test('a cursor reads all rows in portions', async () => {
  await everywhere(async (client) => {
    const cursor = client.query(new Cursor('SELECT id FROM acct WHERE id <= $1', [ROWS]));
    const seen = new Set<string>();
    for (;;) {
      const rows = (await cursor.read(700)) as { id: string }[];
      if (rows.length === 0) break;
      for (const row of rows) seen.add(row.id);
    }
    await cursor.close();
    expect(seen.size).toBe(ROWS);
  });
});

test('COPY in and out', async () => {
  await everywhere(async (client, at) => {
    const base = 100_000 + at * 1_000;
    const lines = Array.from({ length: 500 }, (_, i) => `${base + i}\tcopied ${i}\n`);
    await pipeline(Readable.from(lines), client.query(copyFrom('COPY acct (id, name) FROM STDIN')));
    let text = '';
    const out = client.query(
      copyTo(`COPY (SELECT id, name FROM acct WHERE id BETWEEN ${base} AND ${base + 999} ORDER BY id) TO STDOUT`),
    );
    for await (const chunk of out) text += String(chunk);
    expect(text).toBe(lines.join(''));
    await expect(
      pipeline(Readable.from(['1\tagain\n']), client.query(copyFrom('COPY acct (id, name) FROM STDIN'))),
    ).rejects.toMatchObject({ code: '23505' });
    expect((await client.query('SELECT 1 AS still')).rows).toEqual([{ still: 1 }]);
  });
});

test('LISTEN hears NOTIFY, a slow statement is ended', async () => {
  await everywhere(async (client) => {
    const heard = new Promise((resolve) => client.once('notification', (message) => resolve(message.payload)));
    await client.query('LISTEN news');
    await client.query("NOTIFY news, 'it works'");
    expect(await heard).toBe('it works');
    await client.query("SET statement_timeout = '200ms'");
    await expect(client.query('SELECT pg_sleep(20)')).rejects.toMatchObject({ code: '57014' });
  });
});

test('psql: script, meta-command, error with its hint and exit status', async (context) => {
  if (!existsSync(PSQL)) context.skip(`${PSQL} is not there: psql is NOT tested`);
  for (const { port } of endpoints()) {
    const url = `postgresql://tide@127.0.0.1:${port}/tide`;
    const { stdout } = await run(PSQL, [
      '-X',
      '-At',
      url,
      '-c',
      'SELECT count(*) FROM acct WHERE id <= 5000',
      '-c',
      '\\conninfo',
    ]);
    expect(stdout).toContain(`${ROWS}\n`);
    expect(stdout).toContain(`port "${port}"`);
    const failed = await run(PSQL, [
      '-X',
      url,
      '-v',
      'ON_ERROR_STOP=1',
      '-c',
      'ALTER TABLE acct ADD COLUMN x int',
    ]).catch((error: { code: number; stderr: string }) => error);
    expect(failed).toMatchObject({ code: 1, stderr: expect.stringMatching(/ERROR: .*\nHINT: /) });
  }
});

test('pgbench: a script of its own through every listen port, several clients, prepared', async (context) => {
  const pgbench = PGBENCH;
  if (pgbench === undefined) return context.skip('pgbench is not there: it is NOT tested');
  const script = join(cluster.dir, 'bench.sql');
  writeFileSync(
    script,
    `\\set id random(1, ${ROWS})
BEGIN;
SELECT balance FROM acct WHERE id = :id;
UPDATE acct SET balance = balance + 1 WHERE id = :id;
END;
`,
  );
  // Two that meet on one row of another node conflict as REPEATABLE READ does there: clients try again
  // (--max-tries).
  const sum = async () => {
    const { rows } = await cluster.sql(1).query<{ sum: string }>('SELECT sum(balance) FROM acct WHERE id > 1');
    return Number(rows[0]?.sum);
  };
  for (const [at, node] of cluster.nodes.entries()) {
    const before = await sum();
    const mode = must(['simple', 'extended', 'prepared'][at % 3], 'mode');
    const { stdout } = await run(
      pgbench,
      [
        '-n',
        '--max-tries=10',
        '-M',
        mode,
        '-c',
        '4',
        '-t',
        '50',
        '-f',
        script,
        '-h',
        '127.0.0.1',
        '-p',
        String(listenPort(node)),
        '-U',
        'tide',
        'tide',
      ],
      { timeout: 60_000 },
    );
    expect(stdout).toContain('number of transactions actually processed: 200/200');
    expect(stdout).toContain('number of failed transactions: 0');
    // Whoever is picked as row 1 is not in the sum.
    expect((await sum()) - before).toBeGreaterThanOrEqual(195);
  }
});

test('pgbench: statements in a pipeline, none waiting for the answer before', async (context) => {
  const pgbench = PGBENCH;
  if (pgbench === undefined) return context.skip('pgbench is not there: pipelines are NOT tested');
  const script = join(cluster.dir, 'pipeline.sql');
  const reads = Array.from({ length: 20 }, (_, i) => `SELECT name FROM acct WHERE id = ${i + 1};`).join('\n');
  writeFileSync(script, `\\startpipeline\n${reads}\nUPDATE acct SET balance = 0 WHERE id = 1;\n\\endpipeline\n`);
  for (const { port } of endpoints()) {
    const { stdout } = await run(
      pgbench,
      [
        '-n',
        '-M',
        'extended',
        '-c',
        '1',
        '-t',
        '10',
        '-f',
        script,
        '-h',
        '127.0.0.1',
        '-p',
        String(port),
        '-U',
        'tide',
        'tide',
      ],
      { timeout: 60_000 },
    );
    expect(stdout).toContain('number of transactions actually processed: 10/10');
    expect(stdout).toContain('number of failed transactions: 0');
  }
});

test('HTTP and PostgreSQL on one port, at the same time', async () => {
  for (const node of cluster.nodes) {
    const client = new pg.Client({ host: '127.0.0.1', port: listenPort(node), user: 'tide', database: 'tide' });
    await client.connect();
    const [health, rows, status] = await Promise.all([
      get(node.address, '/health'),
      client.query<{ n: number }>('SELECT count(*)::int AS n FROM acct WHERE id <= $1', [ROWS]),
      cluster.admin({ do: 'node-status' }, { node: node.id }),
    ]);
    expect(health).toEqual({ status: 200, body: { ready: true } });
    expect(await get(node.httpAddress, '/health')).toEqual({ status: 200, body: { ready: true } });
    expect(rows.rows).toEqual([{ n: ROWS }]);
    expect(status).toHaveLength(3);
    expect((await get(node.address, '/nowhere')).status).toBe(404);
    await client.end();
  }
});

test('TLS is declined in the way that clients understand: sslmode prefer works, require says why not', async () => {
  const port = listenPort(must(cluster.nodes[0], 'node'));
  const wanted = new pg.Client({ host: '127.0.0.1', port, user: 'tide', database: 'tide', ssl: true });
  await expect(wanted.connect()).rejects.toThrow('The server does not support SSL connections');
});

function get(address: string, path: string): Promise<{ status: number | undefined; body: unknown }> {
  return new Promise((resolve, reject) => {
    request(`http://${address}${path}`, { agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode, body: JSON.parse(text) }));
    })
      .on('error', reject)
      .end();
  });
}
