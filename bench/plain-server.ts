import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { freePorts } from '../src/local/free-ports.ts';
import { findBinaries } from '../src/postgres/binaries.ts';
import { ensureDataDir } from '../src/postgres/initdb.ts';
import { PostgresServer } from '../src/postgres/server.ts';

/** A PostgreSQL as pgtide configures it, but for whom it lets in; it is not started. */
export async function plainServer(dir: string, port: number): Promise<PostgresServer> {
  const binaries = await findBinaries();
  const dataDir = join(dir, String(port));
  await ensureDataDir(dataDir, binaries);
  // pgtide's own rules know no physical replication, and no clients over TCP while the server is behind its
  // fence.
  const rules = join(dataDir, 'bench_hba.conf');
  await writeFile(rules, 'host all,replication all 127.0.0.1/32 trust\n');
  await appendFile(join(dataDir, 'postgresql.auto.conf'), `hba_file = '${rules}'\n`);
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
