import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { must } from '../../../src/core/assert.ts';
import { createTable, type LocalCluster } from '../../support/cluster.ts';
import type { Epoch, Operation } from './history.ts';

const PARTITIONS = 8;
const KEYS = 48;
const PAUSE_MS = 12;
const STATEMENT_MS = 2_000;
const WATCH_MS = 100;

/**
 * SQLSTATEs after which a statement has certainly not happened: conflict, no leader here, nobody let in, no
 * connection to the leader.
 */
const REFUSED = new Set(['40001', '40P01', 'TD001', '57P03', '28000', '53300', '55P03', '08001']);

export async function createHistoryTable(cluster: LocalCluster, replicas: number): Promise<void> {
  const columns = `id bigint PRIMARY KEY, value bigint NOT NULL DEFAULT 0, items bigint[] NOT NULL DEFAULT '{}'`;
  await createTable(cluster, `CREATE TABLE history (${columns})`, { partitions: PARTITIONS, replicas });
}

interface HistoriansOptions {
  manager: number;
  nodes: readonly number[];
  perNode: number;
  patient?: number;
  patientMs?: number;
  /**
   * Further clients, through one node, that only read, and only what is in these partitions: those that write
   * wait for what does not come.
   */
  readers?: { node: number; pids: ReadonlySet<number>; count: number };
}

let nextKey = 1;
let nextValue = 1;

/**
 * Clients that write registers and lists through nodes, read them, and keep what they saw. Each set has keys
 * of its own.
 */
export class Historians {
  readonly history: Operation[] = [];
  readonly #cluster: LocalCluster;
  readonly #manager: number;
  readonly #pids: ReadonlyMap<number, number>;
  readonly #epochs = new Map<string, Epoch>();
  readonly #pools: pg.Pool[] = [];
  #workers: Promise<void>[] = [];
  #stopped = false;

  private constructor(cluster: LocalCluster, manager: number, pids: ReadonlyMap<number, number>) {
    this.#cluster = cluster;
    this.#manager = manager;
    this.#pids = pids;
  }

  /**
   * Makes the keys, and begins: `perNode` clients through each node, half of them through its listen port and
   * half past it. `manager`: whoever is asked, it or a node that asks it. `patient`: those through this node
   * give nothing up before `patientMs`.
   */
  static async start(cluster: LocalCluster, options: HistoriansOptions): Promise<Historians> {
    const first = nextKey;
    nextKey += KEYS;
    const sql = cluster.postgres(options.manager);
    await sql.query('INSERT INTO history (id) SELECT generate_series($1::bigint, $2)', [first, first + KEYS - 1]);
    const { rows } = await sql.query<{ id: string; pid: number }>(
      `SELECT k AS id, pid FROM generate_series($1::bigint, $2) k, generate_series(0, ${PARTITIONS - 1}) pid
        WHERE satisfies_hash_partition('history'::regclass, ${PARTITIONS}, pid, k)`,
      [first, first + KEYS - 1],
    );
    const historians = new Historians(cluster, options.manager, new Map(rows.map((r) => [Number(r.id), r.pid])));
    historians.#start(options);
    return historians;
  }

  get epochs(): Epoch[] {
    return [...this.#epochs.values()];
  }

  /** Acknowledged writes and appends that were asked for after a moment. */
  acknowledged(sinceMs: number, which: (operation: Operation) => boolean = () => true): Operation[] {
    return this.history.filter((o) => o.kind !== 'read' && o.outcome === 'ok' && o.invokedMs >= sinceMs && which(o));
  }

  /** Lets every statement come to its end. May be called more than once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
    await Promise.all(this.#pools.splice(0).map((p) => p.end()));
  }

  /** Everything, once more, through a node: what the history ends with. */
  async readAll(node: number): Promise<void> {
    const { host, postgresPort } = this.#cluster.node(node);
    const pool = openPool(host, postgresPort);
    for (const key of this.#pids.keys()) await this.#read(pool, node, key);
    await pool.end();
  }

  #start({ nodes, perNode, readers, patient, patientMs }: HistoriansOptions): void {
    const keys = [...this.#pids.keys()];
    for (const node of nodes) {
      const { host, address, postgresPort } = this.#cluster.node(node);
      const ms = node === patient ? patientMs : STATEMENT_MS;
      const open = () => [Number(address.split(':')[1]), postgresPort].map((port) => openPool(host, port, ms));
      const pools = open();
      for (let i = 0; i < perNode; i++) this.#workers.push(this.#work(must(pools[i % 2], 'pool'), node, keys));
      this.#pools.push(...pools);
      if (readers?.node !== node) continue;
      const theirs = keys.filter((key) => readers.pids.has(must(this.#pids.get(key), 'partition of the key')));
      const others = open();
      for (let i = 0; i < readers.count; i++) this.#workers.push(this.#look(must(others[i % 2], 'pool'), node, theirs));
      this.#pools.push(...others);
    }
    this.#workers.push(this.#watch());
  }

  async #work(pool: pg.Pool, node: number, keys: readonly number[]): Promise<void> {
    while (!this.#stopped) {
      const key = oneOf(keys);
      const chance = Math.random();
      if (chance < 0.4) await this.#read(pool, node, key);
      else await this.#change(pool, node, key, chance < 0.7 ? 'write' : 'append');
      await sleep(PAUSE_MS);
    }
  }

  async #look(pool: pg.Pool, node: number, keys: readonly number[]): Promise<void> {
    while (!this.#stopped) {
      await this.#read(pool, node, oneOf(keys));
      await sleep(PAUSE_MS);
    }
  }

  async #change(pool: pg.Pool, node: number, key: number, kind: 'write' | 'append'): Promise<void> {
    const value = nextValue++;
    const what = kind === 'write' ? 'value = $2' : 'items = items || $2::bigint';
    const text = `UPDATE history SET ${what} WHERE id = $1 RETURNING tableoid::regclass::text AS at`;
    const done = await this.#run<{ at: string }>(pool, text, [key, value]);
    // The key is there from the beginning: a statement that does not find it has done nothing, and a later
    // read says so.
    const outcome = done.outcome === 'ok' && !done.row ? 'fail' : done.outcome;
    this.#keep({ ...done, outcome, kind, key, node, value, items: [], at: done.row?.at });
  }

  async #read(pool: pg.Pool, node: number, key: number): Promise<void> {
    const text = 'SELECT value, items, tableoid::regclass::text AS at FROM history WHERE id = $1';
    const done = await this.#run<{ value: string; items: string[]; at: string }>(pool, text, [key]);
    if (done.outcome !== 'ok') return;
    const { value = -1, items = [], at } = done.row ?? {};
    this.#keep({ ...done, kind: 'read', key, node, value: Number(value), items: items.map(Number), at });
  }

  #keep({ at, ...operation }: Omit<Operation, 'pid' | 'local' | 'by'> & { at: string | undefined }): void {
    const { kind, key, node, value, items, invokedMs, endedMs, outcome } = operation;
    const local = at?.startsWith('tide_data.') ?? false;
    const by = Number(/_n(\d+)$/.exec(at ?? '')?.[1] ?? node);
    const pid = must(this.#pids.get(key), 'partition of the key');
    this.history.push({ kind, key, pid, node, local, by, value, items, invokedMs, endedMs, outcome });
  }

  async #run<R extends pg.QueryResultRow>(
    pool: pg.Pool,
    text: string,
    values: unknown[],
  ): Promise<Pick<Operation, 'invokedMs' | 'endedMs' | 'outcome'> & { row?: R | undefined }> {
    const invokedMs = performance.now();
    const unknown = { invokedMs, endedMs: Number.POSITIVE_INFINITY, outcome: 'unknown' } as const;
    let client: pg.PoolClient | null = null;
    try {
      client = await pool.connect();
      const connected = client as pg.PoolClient & { doubtful?: boolean };
      const { rows } = await client.query<R>(text, values);
      client.release();
      // PostgreSQL's success with a warning that nobody else may have it (docs/durability.md).
      if (connected.doubtful) return unknown;
      return { invokedMs, endedMs: performance.now(), outcome: 'ok', row: rows[0] };
    } catch (error) {
      client?.release(true);
      const refused = client === null || (error instanceof pg.DatabaseError && REFUSED.has(error.code ?? ''));
      return refused ? { invokedMs, endedMs: performance.now(), outcome: 'fail' } : unknown;
    }
  }

  /** Who leads, as the manager says. */
  async #watch(): Promise<void> {
    while (!this.#stopped) {
      const ask = { node: this.#manager, timeoutMs: STATEMENT_MS };
      const rows = await this.#cluster.admin({ do: 'partition-ls' }, ask).catch(() => []);
      for (const { pid, epoch, node, role } of rows)
        if (role === 'leader') this.#epochs.set(`${pid} ${epoch}`, { pid, epoch, leader: node });
      await sleep(WATCH_MS);
    }
  }
}

function oneOf<T>(items: readonly T[]): T {
  return must(items[Math.floor(Math.random() * items.length)], 'item');
}

function openPool(host: string, port: number, statementMs = STATEMENT_MS): pg.Pool {
  const pool = new pg.Pool({
    host,
    port,
    user: 'tide',
    database: 'tide',
    max: 8,
    connectionTimeoutMillis: statementMs,
    query_timeout: statementMs,
  });
  pool.on('error', () => {});
  pool.on('connect', (client) => {
    client.on('error', () => {});
    client.on('notice', ({ message }) => {
      if (/might not have been replicated/.test(message ?? '')) Object.assign(client, { doubtful: true });
    });
  });
  return pool;
}
