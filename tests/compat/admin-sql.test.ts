import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { finished } from 'node:stream/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { RELATION_NAMES, RELATIONS } from '../../src/api/relations.ts';
import { must } from '../../src/core/assert.ts';
import { parseMessage } from '../../src/gateway/wire/extended.ts';
import { SYNC, simpleQuery, startupMessage } from '../../src/gateway/wire/messages.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';

/** Statements about the cluster, through a node that does not manage it. */

const PSQL = '/usr/bin/psql';
const run = promisify(execFile);
const SET = (value: string) => `SET CLUSTER SETTING move.max_pause = ${value}`;
const SHOW = 'SHOW CLUSTER SETTING move.max_pause';

let cluster: LocalCluster;
let client: pg.Client;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (let started = 0; started < 3; started++) await cluster.addNode();
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  await cluster.admin({ do: 'setting-set', key: 'min_nodes', value: '2' });
  await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, owner int)', { partitions: 4, replicas: 2 });
  client = await login(2);
  await client.query('INSERT INTO acct SELECT n, 1 + n % 3 FROM generate_series(1, 30) n');
});
afterAll(async () => {
  await client?.end();
  await cluster?.close();
});
beforeEach(async () => {
  await cluster.admin({ do: 'setting-set', key: 'move.max_pause', value: '200' });
});

async function login(node: number, options: pg.ClientConfig = {}): Promise<pg.Client> {
  const [host, port] = cluster.node(node).address.split(':');
  const found = new pg.Client({ host: host as string, port: Number(port), user: 'tide', database: 'tide', ...options });
  found.on('error', () => {});
  await found.connect();
  return found;
}

/** All that a session answers to these messages, byte for byte. */
async function exchanged(...messages: Buffer[]): Promise<string> {
  const [host, port] = cluster.node(2).address.split(':');
  const socket = connect(Number(port), host as string);
  const parameters = new Map([
    ['user', 'tide'],
    ['database', 'tide'],
  ]);
  let answers = '';
  socket.on('data', (piece) => {
    answers += piece.toString('latin1');
  });
  socket.write(startupMessage(parameters));
  await expect.poll(() => answers.includes('Z\0\0\0\x05I'), { timeout: 30_000 }).toBe(true);
  socket.write(Buffer.concat([...messages, simpleQuery('SELECT 4711')]));
  await expect.poll(() => answers.includes('4711'), { timeout: 30_000 }).toBe(true);
  socket.destroy();
  return answers;
}

async function maxPause(): Promise<string | undefined> {
  return (await cluster.admin({ do: 'setting-ls' })).find(({ key }) => key === 'move.max_pause')?.value;
}

describe('what is read', () => {
  test.for(RELATION_NAMES)('%s have their columns, in simple and in extended queries', async (name) => {
    const shown = await client.query(`SHOW ${name}`);
    const names = RELATIONS[name].columns.map((column) => column.name);
    expect(shown.fields.map((field) => field.name)).toEqual(names);
    const { rows: counted } = await client.query(`SELECT count(*)::int AS n FROM tide.${name} WHERE $1`, [true]);
    expect(counted).toEqual([{ n: shown.rows.length }]);
  });

  test('nodes, tables, partitions and operations are those that there are', async () => {
    const { rows: nodes } = await client.query('SHOW NODES');
    expect(nodes).toMatchObject([1, 2, 3].map((id) => ({ id, is_live: true, sql_address: cluster.node(id).address })));
    const { rows: tables } = await client.query('SHOW TABLES');
    expect(tables).toMatchObject([{ schema: 'public', name: 'acct', partitions: 4, replicas: 2 }]);
    const { rows: of } = await client.query('SHOW PARTITIONS FROM acct');
    expect(of).toHaveLength(8);
    const { rows: leaders } = await client.query('SHOW ROUTES');
    expect(leaders).toMatchObject([0, 1, 2, 3].map((pid) => ({ table_name: 'acct', pid, is_alive: true })));
    const { rows: done } = await client.query("SELECT * FROM tide.operations WHERE kind = 'create-table'");
    expect(done).toMatchObject([{ status: 'done', error: null, started_at: expect.any(Date) }]);
  });

  test('joins with tables of the user, in a view’s place, a cursor, a transaction and EXPLAIN', async () => {
    const { rows } = await client.query(
      'SELECT n.id, count(*)::int AS accounts FROM acct JOIN tide.nodes n ON n.id = owner GROUP BY 1 ORDER BY 1',
    );
    expect(rows).toEqual([1, 2, 3].map((id) => ({ id, accounts: 10 })));
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    expect((await client.query('SELECT count(*)::int AS n FROM tide.settings')).rows[0].n).toBeGreaterThan(10);
    expect((await client.query(SHOW)).rows).toEqual([{ 'move.max_pause': '200' }]);
    await client.query('COMMIT');
    await client.query('BEGIN');
    await client.query('DECLARE c CURSOR FOR SELECT id FROM tide.nodes ORDER BY id');
    expect((await client.query('FETCH ALL FROM c')).rows).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }]);
    await client.query('COMMIT');
    const cursor = client.query(new Cursor('SELECT id FROM tide.nodes WHERE id > $1 ORDER BY id', [1]));
    expect(await cursor.read(1)).toEqual([{ id: 2 }]);
    expect(await cursor.read(5)).toEqual([{ id: 3 }]);
    await cursor.close();
    expect((await client.query('EXPLAIN SELECT * FROM tide.nodes')).rows.length).toBeGreaterThan(0);
  });

  test('is what is so when it is asked for, each time, also by a prepared statement', async () => {
    const ask = () => client.query({ name: 'pause', text: SHOW });
    for (const value of ['101', '102', '103']) {
      await cluster.admin({ do: 'setting-set', key: 'move.max_pause', value });
      expect((await ask()).rows).toEqual([{ 'move.max_pause': value }]);
    }
  });

  test('is refused where it would not be what is so now', async () => {
    await client.query('CREATE TEMPORARY VIEW mine AS SELECT * FROM tide.events');
    await expect(cluster.postgres(3).query('SELECT * FROM tide.events')).rejects.toMatchObject({
      code: '55000',
      hint: expect.stringContaining('tide.events'),
    });
    await expect(client.query('SHOW CLUSTER SETTING nonsense')).rejects.toMatchObject({ code: '42704' });
  });

  test('is for tide, and for whom tide lets', async () => {
    for (const node of [1, 2, 3]) await cluster.sql(node).query('CREATE ROLE app LOGIN');
    const app = await login(2, { user: 'app' });
    await expect(app.query('SELECT * FROM tide.nodes')).rejects.toMatchObject({ code: '42501' });
    await expect(app.query('TABLE tide.shown')).rejects.toMatchObject({ code: '42501' });
    await expect(client.query('DELETE FROM tide.shown')).rejects.toMatchObject({ code: '42501' });
    await client.query('GRANT SELECT ON tide.nodes TO app');
    await client.query('SHOW NODES');
    expect((await app.query('SELECT id FROM tide.nodes ORDER BY 1')).rows).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }]);
    await expect(app.query('SELECT * FROM tide.events')).rejects.toMatchObject({ code: '42501' });
    await app.end();
  });

  test('runs nothing of a session’s own as anybody else', async () => {
    const other = await login(2);
    const notices: string[] = [];
    other.on('notice', ({ message = '' }) => notices.push(message));
    await other.query(`CREATE FUNCTION pg_temp.seen(v pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS
      $$ BEGIN RAISE NOTICE 'seen by %', current_user; RETURN true; END $$`);
    await other.query('CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.seen(VALUE))');
    expect((await other.query(SHOW)).rows).toEqual([{ 'move.max_pause': '200' }]);
    expect((await other.query('SHOW PARTITIONS FROM acct')).rows).toHaveLength(8);
    await other.query('SHOW NODES');
    expect(notices).toEqual([]);
    await other.end();
  });

  test('of a table or a setting that there is not says so', async () => {
    await expect(client.query('SHOW PARTITIONS FROM nothing')).rejects.toMatchObject({ code: '42P01' });
    await expect(client.query('SHOW PARTITIONS FROM acct.acct')).rejects.toMatchObject({ code: '42P01' });
    await expect(client.query('SHOW constructor')).rejects.toMatchObject({ code: '42704' });
  });

  test('by a hundred at once is asked of the manager a few times', async () => {
    const pool = new pg.Pool({ connectionString: `postgresql://tide@${cluster.node(3).address}/tide`, max: 20 });
    const answers = await Promise.all(Array.from({ length: 100 }, () => pool.query('SHOW PARTITIONS')));
    expect(answers.every(({ rows }) => rows.length === 8)).toBe(true);
    await pool.end();
  });
});

describe('a setting', () => {
  test('is set by simple queries, and shown in all', async () => {
    await client.query(SET('123'));
    expect(await maxPause()).toBe('123');
    const extended = (text: string) => client.query({ text, queryMode: 'extended' } as pg.QueryConfig);
    for (const shown of [client.query(SHOW), extended(SHOW), client.query({ name: 'shown', text: SHOW })])
      expect((await shown).rows).toEqual([{ 'move.max_pause': '123' }]);
    await client.query('RESET CLUSTER SETTING move.max_pause');
    expect((await client.query(SHOW)).rows).toEqual([{ 'move.max_pause': '200' }]);
    await expect(client.query(SET('banana'))).rejects.toMatchObject({
      code: '22023',
      message: 'setting move.max_pause cannot be "banana"',
      detail: 'code: SETTING_INVALID',
      where: undefined,
    });
    for (const [text, code] of [
      ['SET CLUSTER SETTING nonsense = 1', 'SETTING_UNKNOWN'],
      ['RESET CLUSTER SETTING nonsense', 'SETTING_UNKNOWN'],
      ['SET CLUSTER SETTING', 'SYNTAX'],
    ])
      await expect(client.query(text as string)).rejects.toMatchObject({ detail: `code: ${code}` });
    // The session goes on, and is still routed.
    expect((await client.query('SELECT owner FROM acct WHERE id = 3')).rows).toEqual([{ owner: 1 }]);
  });

  test.for(['extended', 'prepared'])('is not set by %s queries, which are told what to send', async (how) => {
    const query: pg.QueryConfig & { queryMode?: string } =
      how === 'prepared' ? { name: 'set', text: SET('124') } : { text: SET('124'), queryMode: 'extended' };
    for (let i = 0; i < 2; i++)
      await expect(client.query(query)).rejects.toMatchObject({
        code: '0A000',
        hint: expect.stringContaining('simple'),
      });
    expect(await maxPause()).toBe('200');
  });

  test('is set when all that was sent before is answered; what is read may be sent at any time', async () => {
    const answers = await exchanged(
      simpleQuery(SET('101')),
      simpleQuery(SHOW),
      simpleQuery(SET('102')),
      simpleQuery(SHOW),
    );
    expect(answers.split('move.max_pause')).toHaveLength(3);
    expect(answers.match(/C25001/g)).toHaveLength(1);
    expect(await maxPause()).toBe('101');
    // What the gateway asks and tells the server itself is nothing to the client.
    const other = await login(2);
    for (let i = 0; i < 40; i++) {
      await other.query({ name: `read ${i}`, text: `SELECT owner, ${i} FROM acct WHERE id = $1`, values: [i] });
      await other.query(SET('101'));
    }
    await other.end();
    const failed = await exchanged(parseMessage('', 'SELEC', []), simpleQuery(SET('103')), SYNC);
    expect(failed).toContain('C42601');
    expect(await maxPause()).toBe('101');
  });

  test('is set by a session whose transactions are serializable, and shown', async () => {
    const other = await login(2, { options: '-c default_transaction_isolation=serializable' });
    const extended = (text: string) => other.query({ text, queryMode: 'extended' } as pg.QueryConfig);
    for (const value of ['151', '152', '153', '154']) {
      await other.query(SET(value));
      expect((await extended(SHOW)).rows).toEqual([{ 'move.max_pause': value }]);
      expect((await other.query('EXPLAIN SCALE OUT')).rows).toEqual([{ 'QUERY PLAN': 'Nothing to do' }]);
    }
    await other.end();
  });

  test('is shown, and set, behind COPY in whatever protocol', async () => {
    await client.query('CREATE TEMPORARY TABLE copied (id int)');
    const other = await login(2);
    await other.query('CREATE TEMPORARY TABLE copied (id int)');
    const stream = other.query(copyFrom('COPY copied FROM STDIN'));
    stream.end('1\n2\n');
    await finished(stream);
    await other.query(SET('131'));
    expect(await maxPause()).toBe('131');
    expect((await other.query(SHOW)).rows).toEqual([{ 'move.max_pause': '131' }]);
    await other.end();
  });

  test('is for whoever is tide at that moment', async () => {
    await client.query('CREATE ROLE lesser; GRANT lesser TO tide; SET ROLE lesser');
    await expect(client.query(SET('66'))).rejects.toMatchObject({ code: '42501', detail: 'code: NO_RIGHT' });
    await client.query('RESET ROLE');
    expect(await maxPause()).toBe('200');
    await client.query(SET('67'));
    expect(await maxPause()).toBe('67');
  });

  test('is no part of a transaction', async () => {
    await client.query('BEGIN');
    await expect(client.query(SET('77'))).rejects.toMatchObject({ code: '25001' });
    await expect(client.query(SET('78'))).rejects.toMatchObject({ code: '25P02' });
    await client.query('ROLLBACK');
    // Nor is what the failed one left found later.
    expect(await maxPause()).toBe('200');
    await client.query(SET('79'));
    expect(await maxPause()).toBe('79');
  });

  test('by psql, with its own commands', async (context) => {
    if (!existsSync(PSQL)) return context.skip(`no ${PSQL}`);
    const script = `${SET('88')} \\; SELECT 1;\n${SET('89')};\n${SHOW}\n\\gset p_\n\\echo got :"p_move.max_pause"\nSHOW NODES \\g (format=unaligned tuples_only=on)\n`;
    const at = `postgresql://tide@${cluster.node(3).address}/tide`;
    const child = run(PSQL, ['-X', '-q', at]);
    child.child.stdin?.end(script);
    const { stdout, stderr } = await child;
    expect(stderr).toContain('syntax error');
    expect(stdout.split('\n').filter((line) => /^[123]\|/.test(line))).toHaveLength(3);
    expect(await maxPause()).toBe('89');
  });
});

test('how a statement would be executed is explained, with the reason', async () => {
  // One that has done nothing yet but what is known.
  const fresh = await login(2);
  const explain = async (statement: string) =>
    (await fresh.query(`EXPLAIN (ROUTE) ${statement}`)).rows.map((row) => row['QUERY PLAN']);
  const { rows: routes } = await fresh.query('SHOW ROUTES');
  await expect.poll(() => explain('SELECT owner FROM acct WHERE id = 7')).toHaveLength(3);
  const [first, second, third] = await explain('SELECT owner FROM acct WHERE id = 7');
  expect(first).toMatch(/^Route: the leader of one partition/);
  const [, pid, node] = must(/^ {2}Reads partition (\d), which node (\d) leads$/.exec(second), second);
  expect(routes).toContainEqual(expect.objectContaining({ pid: Number(pid), node: Number(node) }));
  expect(third).toMatch(new RegExp(`^  Statement: SELECT owner FROM tide_hinge\\.t\\d+_p${pid} `));
  const { rows: there } = await cluster
    .postgres(Number(node))
    .query(`SELECT tableoid::regclass::text AS at FROM acct WHERE id = 7`);
  expect(there).toEqual([{ at: expect.stringMatching(new RegExp(`_p${pid}$`)) }]);
  expect(await explain('UPDATE acct SET owner = 1 WHERE id = $1')).toEqual([
    expect.stringMatching(/^Route: the leader/),
    '  Writes the partition of $1; below it is 0',
    expect.stringContaining('_p0'),
  ]);
  for (const [statement, why] of [
    ['SELECT count(*) FROM acct', 'id is not held equal'],
    ['SELECT * FROM acct a JOIN acct b USING (id) WHERE id = 1', 'a join'],
    ['SELECT 1', 'no FROM'],
    ['SELECT * FROM nothing WHERE id = 1', 'nothing is no distributed table'],
    ['nonsense', 'syntax error'],
    ['SELECT 1; SELECT 2', 'one statement'],
  ] as const)
    expect(await explain(statement)).toEqual([
      'Route: home, rows of other nodes by postgres_fdw',
      expect.stringContaining(why),
    ]);
  await fresh.query('CREATE TEMPORARY TABLE mine (id int)');
  await expect.poll(() => explain('SELECT owner FROM acct WHERE id = 7')).toHaveLength(2);
  await fresh.end();
});

describe('a change of the cluster', () => {
  test('is explained, line by line, and changes nothing', async () => {
    const { rows } = await client.query('EXPLAIN SCALE IN NODE 3');
    expect(Object.keys(must(rows[0], 'line'))).toEqual(['QUERY PLAN']);
    const lines = rows.map((row) => row['QUERY PLAN'] as string);
    expect(lines[0]).toMatch(/^Moves: \d+, .*B \(at least .*\)$/);
    expect(lines.filter((line) => /acct \d: n3 -> n[12]/.test(line)).length).toBeGreaterThan(0);
    expect(lines.at(-1)).toMatch(/^Node \d: replicas \d+ -> \d+/);
    await expect(client.query('EXPLAIN DECOMMISSION 9')).rejects.toMatchObject({ detail: 'code: NODE_UNKNOWN' });
    expect((await cluster.admin({ do: 'op-ls' })).filter((op) => op.status === 'running')).toEqual([]);
  });

  test('is started, and watched and waited for in SQL', async () => {
    const { rows } = await client.query('ALTER CLUSTER DRAIN NODE 3');
    const id = Number(must(rows[0], 'operation').operation);
    await expect
      .poll(async () => (await client.query('SELECT status FROM tide.operations WHERE id = $1', [id])).rows, {
        timeout: 30_000,
      })
      .toEqual([{ status: 'done' }]);
    const drained = await client.query('SELECT count(*)::int AS n FROM tide.routes WHERE node = 3');
    expect(drained.rows).toEqual([{ n: 0 }]);
    expect((await client.query('SELECT is_draining FROM tide.nodes WHERE id = 3')).rows).toEqual([
      { is_draining: true },
    ]);
    const back = await client.query('ALTER CLUSTER UNDRAIN NODE 3');
    await cluster.waitForOperation(Number(must(back.rows[0], 'operation').operation));
    await expect(client.query('ALTER CLUSTER CANCEL OPERATION 9999')).rejects.toMatchObject({
      detail: expect.stringMatching(/^code: OP/),
    });
    await expect(client.query('ALTER CLUSTER EXPLODE')).rejects.toMatchObject({
      code: '42601',
      hint: expect.stringContaining('ALTER CLUSTER SCALE OUT'),
    });
  });
});

test('while the manager is away statements about the cluster say so in time, and all others go on', async () => {
  await cluster.node(1).kill('SIGSTOP');
  try {
    const begunMs = performance.now();
    await expect(client.query('SHOW NODES')).rejects.toMatchObject({ detail: expect.stringMatching(/^code: /) });
    expect(performance.now() - begunMs).toBeLessThan(30_000);
    const other = await login(2);
    const asking = expect(other.query('SHOW EVENTS')).rejects.toMatchObject({ severity: 'ERROR' });
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await asking;
    await other.end();
  } finally {
    await cluster.node(1).kill('SIGCONT');
  }
  await expect.poll(async () => (await client.query('SHOW NODES')).rows.length, { timeout: 30_000 }).toBe(3);
});
