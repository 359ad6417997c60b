import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { freePorts } from '../src/local/free-ports.ts';
import { findBinaries } from '../src/postgres/binaries.ts';
import { ensureDataDir } from '../src/postgres/initdb.ts';
import { PostgresServer } from '../src/postgres/server.ts';

/** A PostgreSQL as pgtide configures it, which is not started. */
export async function plainServer(dir: string, port: number): Promise<PostgresServer> {
  const binaries = await findBinaries();
  const dataDir = join(dir, String(port));
  await ensureDataDir(dataDir, binaries);
  const settings = { port, listenHosts: ['127.0.0.1'], socketDir: null };
  return new PostgresServer({ binaries, dataDir, logFile: join(dir, `${port}.log`), settings });
}

/** Runs `body` beside one PostgreSQL that plans as PostgreSQL does by default; nothing is left behind. */
export async function onPlainServer<T>(body: (port: number, pool: pg.Pool) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'pgtide-bench-'));
  const [port = 0] = await freePorts(1);
  const server = await plainServer(dir, port);
  const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'tide', database: 'postgres', max: 10 });
  pool.on('error', () => {});
  try {
    await server.start();
    await pool.query('ALTER SYSTEM SET plan_cache_mode = auto');
    await pool.query('SELECT pg_reload_conf()');
    return await body(port, pool);
  } finally {
    await pool.end().catch(() => {});
    await server.stop('immediate').catch(() => {});
    await rm(dir, { recursive: true, force: true });
  }
}
