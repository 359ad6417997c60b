import { appendFile, chmod, cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { freePorts } from '../src/local/free-ports.ts';
import { PostgresServer } from '../src/postgres/server.ts';
import { plainServer } from './plain-server.ts';

const STANDBYS = 2;

export interface Primary {
  readonly pool: pg.Pool;
  /** Commits are acknowledged when they are on the primary's own disk. */
  waitForNobody(): Promise<void>;
}

/**
 * Plain PostgreSQL, as pgtide configures it, with two physical standbys of which any one has to flush a
 * commit; nothing is left behind.
 */
export async function onPhysicalStandby<T>(body: (primary: Primary) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'pgtide-bench-'));
  const servers: PostgresServer[] = [];
  let pool: pg.Pool | undefined;
  try {
    const [first = 0, ...ports] = await freePorts(1 + STANDBYS);
    const primary = await plainServer(dir, first);
    servers.push(primary);
    // A copy of a server that is stopped is a base backup.
    await primary.start();
    await primary.stop('fast');
    for (const port of ports) servers.push(await copyOf(primary, dir, port));
    for (const server of servers) await server.start();
    pool = new pg.Pool({ host: '127.0.0.1', port: first, user: 'tide', database: 'postgres', max: 10 });
    pool.on('error', () => {});
    const set = async (names: string) => {
      await pool?.query(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`);
      await pool?.query('SELECT pg_reload_conf()');
    };
    await set('ANY 1 (*)');
    await untilFollowed(pool);
    return await body({ pool, waitForNobody: () => set('') });
  } finally {
    await pool?.end().catch(() => {});
    for (const server of servers) await server.stop('immediate').catch(() => {});
    await rm(dir, { recursive: true, force: true });
  }
}

async function copyOf(primary: PostgresServer, dir: string, port: number): Promise<PostgresServer> {
  const dataDir = join(dir, String(port));
  await cp(primary.options.dataDir, dataDir, { recursive: true });
  await chmod(dataDir, 0o700);
  await writeFile(join(dataDir, 'standby.signal'), '');
  await appendFile(
    join(dataDir, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=127.0.0.1 port=${primary.port} user=tide application_name=standby'\n`,
  );
  const settings = { ...primary.options.settings, port };
  return new PostgresServer({ ...primary.options, dataDir, logFile: join(dir, `${port}.log`), settings });
}

async function untilFollowed(pool: pg.Pool): Promise<void> {
  for (let look = 0; look < 300; look++) {
    const { rows } = await pool.query("SELECT FROM pg_stat_replication WHERE state = 'streaming'");
    if (rows.length === STANDBYS) return;
    await sleep(100);
  }
  throw new Error('the standbys do not follow');
}
