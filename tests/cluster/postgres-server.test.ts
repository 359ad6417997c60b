import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, cp, mkdir, mkdtemp, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client, Pool } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePorts } from '../../src/local/free-ports.ts';
import { prepareStore, type StoreDir } from '../../src/node/store-dir.ts';
import { findBinaries, type PostgresBinaries } from '../../src/postgres/binaries.ts';
import { socketDirFor } from '../../src/postgres/config.ts';
import { embeddedBinDir } from '../../src/postgres/embedded.ts';
import { enforceFence, raiseFence } from '../../src/postgres/fence.ts';
import { ensureDataDir } from '../../src/postgres/initdb.ts';
import { bringDatabaseUpToDate } from '../../src/postgres/own-database.ts';
import { isAlive } from '../../src/postgres/postmaster.ts';
import { PostgresServer } from '../../src/postgres/server.ts';
import type { Sql } from '../../src/postgres/sql/client.ts';
import { setQuorum } from '../../src/postgres/sql/quorum.ts';
import { type SupervisorEvent, supervise } from '../../src/postgres/supervise.ts';
import { become, chooseUser } from '../../src/root/user.ts';

/** Generous, for a busy machine. */
const FENCE_MS = 20_000;
/** As the manager's sessions commit. */
const LOCAL_COMMITS = '-c synchronous_commit=local';

let dir: string;
let binaries: PostgresBinaries;
let template: StoreDir;
let port: number;
const servers = new Set<PostgresServer>();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgtide-server-'));
  // Whoever runs a PostgreSQL is not root: this process is somebody else from now on, too.
  const user = chooseUser();
  if (user !== null) {
    await chown(dir, user.uid, user.gid);
    become(user);
  }
  binaries = await findBinaries();
  template = await prepareStore(join(dir, 'template'));
  expect(await ensureDataDir(template.pgdata, binaries)).toBe('made');
  expect(await ensureDataDir(template.pgdata, binaries)).toBe('present');
}, 60_000);
afterEach(async () => {
  for (const server of servers) await server.stop('immediate');
  servers.clear();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A store of its own with a copy of the template's data directory (initdb takes seconds). */
async function freshStore(name: string): Promise<StoreDir> {
  const store = await prepareStore(join(dir, name));
  await cp(template.pgdata, store.pgdata, { recursive: true });
  await chmod(store.pgdata, 0o700);
  [port] = (await freePorts(1)) as [number];
  return store;
}

function serverOf(
  store: StoreDir,
  more: { port?: number; sharedBuffersMb?: number; listenHosts?: string[] } = {},
): PostgresServer {
  const wanted = { port, ...more };
  const server = new PostgresServer({
    binaries,
    dataDir: store.pgdata,
    logFile: store.postgresLog,
    settings: { listenHosts: ['127.0.0.1'], socketDir: socketDirFor(store.run, wanted.port), ...wanted },
  });
  servers.add(server);
  return server;
}

async function ask(server: PostgresServer, sql: string): Promise<unknown> {
  const endpoint = server.localEndpoint;
  const host = 'path' in endpoint ? dirname(endpoint.path) : endpoint.host;
  const client = new Client({ host, port: server.port, user: 'tide', database: 'tide' });
  client.on('error', () => {});
  await client.connect();
  try {
    const { rows } = await client.query({ text: sql, rowMode: 'array' });
    return rows[0]?.[0];
  } finally {
    await client.end();
  }
}

describe('life of a server', () => {
  it('starts configured, stops, and can be asked through its socket', async () => {
    const server = serverOf(await freshStore('life'));
    const { how, processId, tookMs } = await server.start();
    expect(how).toBe('started');
    expect(server.processId).toBe(processId);
    expect(tookMs).toBeLessThan(20_000);
    expect(server.localEndpoint).toHaveProperty('path');
    expect(await ask(server, 'SHOW wal_level')).toBe('logical');
    expect(await ask(server, 'SHOW data_checksums')).toBe('on');
    expect(await ask(server, 'SHOW timezone')).toBe('UTC');
    expect(await ask(server, 'SELECT datlocale FROM pg_database WHERE datname = current_database()')).toBe('C.UTF-8');
    expect(await ask(server, 'CREATE EXTENSION postgres_fdw')).toBeUndefined();
    expect(await ask(server, "SELECT 1 FROM pg_create_logical_replication_slot('s', 'pgoutput')")).toBe(1);
    await server.stop();
    expect(server.isRunning()).toBe(false);
    expect(isAlive(processId)).toBe(false);
  });

  it('tells of an exit nobody asked for, and the supervisor restarts it, data and all', async () => {
    const server = serverOf(await freshStore('killed'));
    const { processId } = await server.start();
    await ask(server, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const events: SupervisorEvent[] = [];
    const supervisor = supervise(server, (event) => events.push(event));
    process.kill(processId, 'SIGKILL');
    await expect.poll(() => events.map((event) => event.kind), { timeout: 30_000 }).toContain('restarted');
    expect(events[0]).toMatchObject({ kind: 'exited', processId, exit: 'signal SIGKILL' });
    expect(await ask(server, 'SELECT answer FROM kept')).toBe(42);
    await supervisor.end();
    await server.stop();
    expect(events.filter((event) => event.kind === 'exited')).toHaveLength(1);
  });

  it('ends when one of its backends has crashed, and starts again behind its fence', async () => {
    const server = serverOf(await freshStore('crashed'));
    const { processId } = await server.start();
    await server.unfence(processId);
    const events: SupervisorEvent[] = [];
    const supervisor = supervise(server, (event) => events.push(event));
    const client = new Client({ host: '127.0.0.1', port, user: 'tide', database: 'tide' });
    client.on('error', () => {});
    await client.connect();
    const { rows } = await client.query<{ backend: number }>('SELECT pg_backend_pid() AS backend');
    process.kill(Number(rows[0]?.backend), 'SIGKILL');
    await expect.poll(() => events.map((event) => event.kind), { timeout: 30_000 }).toContain('restarted');
    expect(events[0]).toMatchObject({ kind: 'exited', processId });
    expect(server.fenced).toBe(true);
    expect(server.processId).not.toBe(processId);
    await supervisor.end();
  });

  it('has its first list of standbys in force when that is said to be so, however late its checkpointer is', async () => {
    const server = serverOf(await freshStore('standbys'));
    const { processId } = await server.start();
    await bringDatabaseUpToDate(1, server.port);
    await server.unfence(processId);
    const pool = new Pool({ host: '127.0.0.1', port, user: 'tide', database: 'tide', options: LOCAL_COMMITS });
    pool.on('error', () => {});
    const sql = { query: async (text: string, values?: unknown[]) => (await pool.query(text, values)).rows };
    const checkpointer = Number(
      await ask(server, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'`),
    );
    process.kill(checkpointer, 'SIGSTOP');
    let said = false;
    const set = setQuorum(sql as Sql, 1, { count: 1, nodes: [2] }).then(() => {
      said = true;
    });
    // Servers show the list long before commits wait for it.
    await expect.poll(() => ask(server, 'SHOW synchronous_standby_names')).toMatch(/tide_1_2/);
    // Not by number: it is said that it failed after 5 s, and a busy machine may need those for them.
    for (const untilMs = performance.now() + 2_000; performance.now() < untilMs; )
      await ask(server, 'SELECT pg_logical_emit_message(true, $$test$$, $$nobody listens$$)');
    expect(said).toBe(false);
    process.kill(checkpointer, 'SIGCONT');
    await set;
    const commit = ask(server, 'SELECT pg_logical_emit_message(true, $$test$$, $$waits$$)');
    const waits = `SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'`;
    await expect.poll(() => ask(server, waits)).toBe(1);
    expect(await ask(server, 'SHOW synchronous_standby_names')).toBe('ANY 1 (tide_1_2)');
    await setQuorum(sql as Sql, 1, { count: 0, nodes: [] });
    await commit;
    await pool.end();
  });

  it('adopts a server whose node process died, and sees it end', async () => {
    const store = await freshStore('adopt');
    const first = serverOf(store);
    const { processId } = await first.start();
    await first.unfence(processId);
    const client = new Client({ host: '127.0.0.1', port, user: 'tide', database: 'tide' });
    await client.connect();
    const second = serverOf(store);
    expect(await second.start()).toMatchObject({ how: 'adopted', processId });
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await client.end();
    const exit = new Promise((resolve) => second.onExit(resolve));
    process.kill(processId, 'SIGKILL');
    expect(await exit).toMatchObject({ processId, exit: 'gone' });
    expect((await second.start()).how).toBe('started');
  });

  it('lets nobody but the manager in until it may serve, and not again when it has been fenced', async () => {
    const server = serverOf(await freshStore('fence'));
    const { processId } = await server.start();
    const session = async (user: string) => {
      const client = new Client({ host: '127.0.0.1', port, user, database: 'tide' });
      client.on('error', () => {});
      await client.connect();
      return client;
    };
    expect(server.fenced).toBe(true);
    await expect(session('tide')).rejects.toThrow('pg_hba.conf rejects connection');
    const manager = await session('tide_manager');
    await server.unfence(processId + 1);
    expect(server.fenced).toBe(true);
    await server.unfence(processId);
    const client = await session('tide');
    await server.fence();
    await expect(client.query('select 1')).rejects.toThrow();
    await expect(session('tide')).rejects.toThrow('pg_hba.conf rejects connection');
    expect((await manager.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    await manager.end();
  });

  it('is fenced by two at once, the node process and its watchdog, and neither ends the other’s work', async () => {
    const server = serverOf(await freshStore('two-fences'));
    const { processId } = await server.start();
    for (let round = 0; round < 5; round++) {
      await server.unfence(processId);
      const clients = Array.from({ length: 10 }, () => {
        const client = new Client({ host: '127.0.0.1', port, user: 'tide', database: 'tide' });
        client.on('error', () => {});
        return client;
      });
      await Promise.all(clients.map((c) => c.connect()));
      await raiseFence(server.options.dataDir);
      // Each comes while the others are at it: sessions that are being let in have no name yet.
      const fences = Array.from({ length: 4 }, (_, i) =>
        sleep(i * 15).then(() => enforceFence(processId, port, FENCE_MS)),
      );
      await Promise.all(fences);
      for (const client of clients) await expect(client.query('select 1')).rejects.toThrow();
      await server.fence();
    }
    expect(isAlive(processId)).toBe(true);
  });

  it('outlives the process that started it, and its Ctrl-C', async () => {
    const store = await freshStore('session');
    const server = serverOf(store);
    const { processId } = await server.start();
    const { stdout } = await promisify(execFile)('ps', ['-o', 'sid=,pgid=', '-p', String(processId)]);
    expect(stdout.trim().split(/\s+/).map(Number)).toEqual([processId, processId]);
  });

  it('restarts a server that runs with other settings than wanted', async () => {
    const store = await freshStore('settings');
    const { processId } = await serverOf(store).start();
    const [other] = (await freePorts(1)) as [number];
    const changed = serverOf(store, { port: other, sharedBuffersMb: 32 });
    const report = await changed.start();
    expect(report.how).toBe('started');
    expect(report.processId).not.toBe(processId);
    expect(await ask(changed, 'SHOW shared_buffers')).toBe('32MB');
    expect(isAlive(processId)).toBe(false);
  });

  it('is not stopped by a stale pid file, even where the pid is taken again', async () => {
    const store = await freshStore('stale');
    const sleeper = spawn('sleep', ['60']);
    await once(sleeper, 'spawn');
    await writeFile(
      join(store.pgdata, 'postmaster.pid'),
      `${sleeper.pid}\n${store.pgdata}\n1\n${port}\n\n*\n1 1\nready\n`,
    );
    // Beside its socket: that of a server killed a moment ago names a process that is there until somebody
    // has collected it.
    const lock = join(store.run, `.s.PGSQL.${port}.lock`);
    await mkdir(store.run, { recursive: true, mode: 0o700 });
    await writeFile(lock, `${sleeper.pid}\n${store.pgdata}\n1\n${port}\n${store.run}\n`);
    const server = serverOf(store);
    expect((await server.start()).how).toBe('started');
    sleeper.kill();
  });

  it('comes through an interrupted initdb', async () => {
    const store = await prepareStore(join(dir, 'interrupted'));
    await mkdir(`${store.pgdata}.new`);
    await writeFile(join(`${store.pgdata}.new`, 'PG_VERSION'), '18\n');
    expect(await ensureDataDir(store.pgdata, binaries)).toBe('made');
  }, 60_000);
});

describe('starts that fail say why', () => {
  it('port in use by another program, and by another PostgreSQL', async () => {
    const store = await freshStore('port');
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
    await expect(serverOf(store).start()).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      details: { flag: '--postgres-port' },
    });
    taken.close();
    await serverOf(store).start();
    const taker = port;
    const other = await freshStore('port2');
    await expect(serverOf(other, { port: taker }).start()).rejects.toMatchObject({ code: 'PORT_IN_USE' });
  });

  it.runIf(process.platform === 'linux')(
    'port in use on the address of the other nodes, though free on loopback',
    async () => {
      const store = await freshStore('port3');
      const taken = createServer();
      await new Promise<void>((resolve) => taken.listen(port, '127.0.0.2', resolve));
      const server = serverOf(store, { listenHosts: ['127.0.0.2'] });
      await expect(server.start()).rejects.toMatchObject({
        code: 'PORT_IN_USE',
        details: { address: `127.0.0.2:${port}` },
      });
      expect(server.isRunning()).toBe(false);
      taken.close();
    },
  );

  it('bad configuration, with the line that is bad', async () => {
    const store = await freshStore('config');
    await writeFile(join(store.pgdata, 'postgresql.auto.conf'), 'work_mem = lots\n');
    await expect(serverOf(store).start()).rejects.toMatchObject({
      code: 'POSTGRES_CONFIG_BAD',
      message: expect.stringContaining('work_mem'),
    });
  });

  it('damaged data, with the end of the log', async () => {
    const store = await freshStore('damaged');
    await writeFile(join(store.pgdata, 'global', 'pg_control'), 'x');
    const failed = expect.objectContaining({
      code: 'POSTGRES_START_FAILED',
      message: expect.stringMatching(/pg_control/),
    });
    await expect(serverOf(store).start()).rejects.toEqual(failed);
  });

  it('data of another version', async () => {
    const store = await freshStore('old');
    await writeFile(join(store.pgdata, 'PG_VERSION'), '17\n');
    await expect(ensureDataDir(store.pgdata, binaries)).rejects.toMatchObject({ code: 'POSTGRES_DATA_VERSION' });
  });
});

describe('binaries', () => {
  async function fakeBin(name: string, says: string): Promise<string> {
    const bin = join(dir, name, 'bin');
    await mkdir(bin, { recursive: true });
    for (const tool of ['postgres', 'initdb'])
      await writeFile(join(bin, tool), `#!/bin/sh\n${says}\n`, { mode: 0o755 });
    return bin;
  }

  it.each([
    [
      'seventeen',
      "echo 'postgres (PostgreSQL) 17.5 (Debian 17.5-1)'",
      'POSTGRES_WRONG_VERSION',
      /is PostgreSQL 17\.5, but pgtide needs PostgreSQL 18/,
    ],
    ['bare', "echo 'postgres (PostgreSQL) 18.4'", 'POSTGRES_INCOMPLETE', /lacks postgres_fdw, pgoutput/],
    ['broken', 'echo libz missing >&2; exit 127', 'POSTGRES_UNUSABLE', /libz missing/],
  ])('refuses %s', async (name, says, code, message) => {
    const postgresBin = await fakeBin(name, says);
    const failed = findBinaries(postgresBin);
    await expect(failed).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('refuses a directory without PostgreSQL, and takes a complete one, through a link too', async () => {
    await expect(findBinaries(dir)).rejects.toMatchObject({ code: 'POSTGRES_MISSING' });
    const bin = join(dir, 'links');
    await mkdir(bin);
    for (const tool of ['postgres', 'initdb']) await symlink(join(binaries.binDir, tool), join(bin, tool));
    expect(await findBinaries(bin)).toEqual(binaries);
  });

  it('copies a package that cannot be written and lacks its links, once, links included', async () => {
    const root = join(dir, 'closed-package');
    const cache = join(dir, 'cache');
    await cp(dirname(dirname(binaries.binDir)), root, { recursive: true, verbatimSymlinks: true });
    await rm(join(root, 'native/lib/libpq.so.5'), { force: true });
    await chmod(join(root, 'native/lib'), 0o555);
    const [first, second] = await Promise.all([embeddedBinDir(root, [cache]), embeddedBinDir(root, [cache])]);
    expect(first.startsWith(`${cache}/postgres-18.`)).toBe(true);
    expect(second).toBe(first);
    expect(await readdir(cache)).toHaveLength(1);
    expect(await readlink(join(dirname(first), 'lib/libpq.so.5'))).toBe('libpq.so.5.18');
    expect(await findBinaries(first)).toMatchObject({ binDir: first, version: binaries.version });
    // A copy that somebody else may have filled is not run.
    await chmod(dirname(dirname(first)), 0o777);
    await expect(embeddedBinDir(root, [cache])).rejects.toMatchObject({ code: 'POSTGRES_UNUSABLE' });
    await chmod(join(root, 'native/lib'), 0o755);
  });
});
