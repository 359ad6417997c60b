import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { must } from '../../../src/core/assert.ts';
import { messageOf } from '../../../src/core/errors.ts';
import type { LocalCluster } from '../../support/cluster.ts';

export const LOAD_TABLE =
  'CREATE TABLE load (id bigint PRIMARY KEY, writes integer NOT NULL DEFAULT 0, padding text NOT NULL)';
export const PARTITIONS = 8;

/** Rows that are there from the beginning; writers insert above. */
const SEEDED = 12_000;
/** Makes a partition a few MB: its copy takes long enough to be disturbed. */
const PADDING_BYTES = 300;
const WRITERS = 4;
const WRITER_KEYS = 200_000;
const PAUSE_MS = 15;
/** Longer than anything is held up on two cores with much else to do, and not for ever. */
const STATEMENT_MS = 15_000;
const ACKNOWLEDGED_MS = 30_000;

/** Whom a fault may hurt: the servers it hits, and partitions led by them. */
export interface Fault {
  /** Statements through these nodes may fail. */
  readonly through: readonly number[];
  /** Statements on these partitions may fail, through whichever node. */
  readonly pids: readonly number[];
}

const NONE: Fault = { through: [], pids: [] };

/**
 * What an interrupted write leaves: between `acknowledged` and `acknowledged + doubtful` writes happened to
 * the row.
 */
interface Row {
  acknowledged: number;
  doubtful: number;
  /** An insert that nobody acknowledged: the row may not be there. */
  maybeAbsent: boolean;
}

/**
 * Writers, readers and a counter through all nodes. A row counts its own writes, so that one that was lost or
 * done twice shows, whenever it happened. Statements that no fault excuses have to succeed.
 */
export class Load {
  readonly failures: string[] = [];
  statements = 0;
  excused = 0;
  readonly #cluster: LocalCluster;
  readonly #rows = new Map<number, Row>();
  readonly #pools = new Map<number, pg.Pool>();
  readonly #pidOf: (key: number) => number;
  #fault: Fault = NONE;
  #stopping: AbortController | null = null;
  #workers: Promise<void>[] = [];
  #inserted = Array.from({ length: WRITERS }, () => 0);

  private constructor(cluster: LocalCluster, pidOf: (key: number) => number) {
    this.#cluster = cluster;
    this.#pidOf = pidOf;
  }

  /** Fills the table, which has to exist, and learns which key belongs to which partition. */
  static async prepare(cluster: LocalCluster, node: number): Promise<Load> {
    const sql = cluster.postgres(node);
    await sql.query(
      `INSERT INTO load (id, padding) SELECT i, repeat('x', ${PADDING_BYTES}) FROM generate_series(1, $1) i`,
      [SEEDED],
    );
    const { rows } = await sql.query<{ id: string; pid: number }>(
      `SELECT k AS id, pid FROM generate_series(1::bigint, $1) k, generate_series(0, ${PARTITIONS - 1}) pid
        WHERE satisfies_hash_partition('load'::regclass, ${PARTITIONS}, pid, k)`,
      [SEEDED],
    );
    const pids = new Map(rows.map((row) => [Number(row.id), row.pid]));
    const load = new Load(cluster, (key) => must(pids.get(((key - 1) % SEEDED) + 1), `partition of ${key}`));
    return load;
  }

  /**
   * Works until `stop`, through the nodes given, and no more through those that it worked through before: a
   * test that failed may have left it at work.
   */
  start(nodes: readonly number[]): void {
    const before = this.stop();
    const stopping = new AbortController();
    this.#stopping = stopping;
    for (const node of nodes) if (!this.#pools.has(node)) this.#pools.set(node, this.#openPool(node));
    this.#workers = [
      before,
      ...Array.from({ length: WRITERS }, (_, writer) => this.#write(writer, nodes, stopping.signal)),
      this.#count(nodes, stopping.signal),
    ];
  }

  /** From now on these may fail; null: nothing may. */
  expect(fault: Fault | null): void {
    this.#fault = fault ?? NONE;
  }

  /** Lets every statement come to its end. */
  async stop(): Promise<void> {
    this.#stopping?.abort();
    await Promise.all(this.#workers);
  }

  async close(): Promise<void> {
    await this.stop();
    await Promise.all([...this.#pools.values()].map((pool) => pool.end()));
    this.#pools.clear();
  }

  /** Reads all rows through a node: what is not as it was acknowledged, in words. */
  async verify(node: number): Promise<string[]> {
    const { rows } = await this.#cluster
      .postgres(node)
      .query<{ id: string; writes: number }>('SELECT id, writes FROM load');
    const found = new Map(rows.map((row) => [Number(row.id), row.writes]));
    const wrong: string[] = [];
    if (rows.length !== found.size) wrong.push(`${rows.length} rows with ${found.size} keys`);
    for (let key = 1; key <= SEEDED; key++) if (!found.has(key)) wrong.push(`seeded row ${key} is missing`);
    for (const [key, row] of this.#rows) {
      const writes = found.get(key);
      if (writes === undefined ? row.maybeAbsent : isPossible(row, writes)) continue;
      const seen = writes === undefined ? 'is missing' : `has ${writes} writes`;
      wrong.push(
        `row ${key} (partition ${this.#pidOf(key)}) ${seen}: ${row.acknowledged} acknowledged, ${row.doubtful} doubtful`,
      );
    }
    return wrong.slice(0, 20);
  }

  get acknowledged(): number {
    return [...this.#rows.values()].reduce((sum, row) => sum + row.acknowledged, 0);
  }

  /** Comes back when so many more writes have been acknowledged; throws where they are not in time. */
  async untilAcknowledged(more: number): Promise<void> {
    const wanted = this.acknowledged + more;
    const untilMs = performance.now() + ACKNOWLEDGED_MS;
    while (this.acknowledged < wanted) {
      if (performance.now() > untilMs)
        throw new Error(
          `${wanted - this.acknowledged} of ${more} writes are not acknowledged after ${ACKNOWLEDGED_MS} ms`,
        );
      await sleep(PAUSE_MS);
    }
  }

  async #write(writer: number, nodes: readonly number[], signal: AbortSignal): Promise<void> {
    for (let turn = writer; !signal.aborted; turn++) {
      const node = must(nodes[turn % nodes.length], 'node of the load');
      if (turn % 5 === 0) await this.#insert(writer, node);
      else await this.#update(1 + writer + WRITERS * Math.floor(Math.random() * (SEEDED / WRITERS)), node);
      await sleep(PAUSE_MS);
    }
  }

  async #insert(writer: number, node: number): Promise<void> {
    // The keys' partitions repeat those of the seeded keys only in name: asked of the server they would cost
    // a statement each.
    const key = SEEDED * 10 + writer * WRITER_KEYS + must(this.#inserted[writer], 'writer');
    this.#inserted[writer] = must(this.#inserted[writer], 'writer') + 1;
    const row: Row = { acknowledged: 0, doubtful: 0, maybeAbsent: true };
    this.#rows.set(key, row);
    const done = await this.#run(node, null, 'insert', async (client) => {
      await client.query('INSERT INTO load (id, padding) VALUES ($1, $2)', [key, 'y']);
    });
    if (done) row.maybeAbsent = false;
  }

  async #update(key: number, node: number): Promise<void> {
    const row = this.#rows.get(key) ?? { acknowledged: 0, doubtful: 0, maybeAbsent: false };
    this.#rows.set(key, row);
    const done = await this.#run(node, this.#pidOf(key), `update ${key}`, async (client) => {
      const { rows } = await client.query<{ writes: number }>(
        'UPDATE load SET writes = writes + 1 WHERE id = $1 RETURNING writes',
        [key],
      );
      const writes = rows[0]?.writes;
      const before = writes === undefined ? undefined : writes - 1;
      if (before === undefined || !isPossible(row, before)) {
        this.failures.push(
          `row ${key} (partition ${this.#pidOf(key)}) through node ${node} had ${before} writes: ${row.acknowledged} acknowledged, ${row.doubtful} doubtful`,
        );
      }
    });
    if (done) row.acknowledged += 1;
    else row.doubtful += 1;
  }

  async #count(nodes: readonly number[], signal: AbortSignal): Promise<void> {
    for (let turn = 0; !signal.aborted; turn++) {
      const node = must(nodes[turn % nodes.length], 'node of the load');
      await this.#run(node, null, 'count', async (client) => {
        const { rows } = await client.query<{ n: string }>('SELECT count(*) AS n FROM load WHERE id <= $1', [SEEDED]);
        if (Number(rows[0]?.n) !== SEEDED)
          this.failures.push(`counted ${rows[0]?.n} of ${SEEDED} through node ${node}`);
      });
      await sleep(PAUSE_MS * 20);
    }
  }

  /** `pid` null: the statement may reach any partition. False where it failed. */
  async #run(
    node: number,
    pid: number | null,
    what: string,
    work: (client: pg.PoolClient) => Promise<void>,
  ): Promise<boolean> {
    this.statements += 1;
    const before = this.#fault;
    let client: pg.PoolClient | null = null;
    try {
      client = await must(this.#pools.get(node), 'pool').connect();
      await work(client);
      client.release();
      return true;
    } catch (error) {
      client?.release(true);
      // A statement may begin before the fault and fail after it, or the other way round.
      if ([before, this.#fault].some((fault) => excuses(fault, node, pid))) this.excused += 1;
      else this.failures.push(`${what} through node ${node}, partition ${pid}: ${messageOf(error)}`);
      return false;
    }
  }

  #openPool(node: number): pg.Pool {
    const port = Number(this.#cluster.node(node).address.split(':')[1]);
    const pool = new pg.Pool({
      host: '127.0.0.1',
      port,
      user: 'tide',
      database: 'tide',
      max: WRITERS + 1,
      connectionTimeoutMillis: STATEMENT_MS,
      query_timeout: STATEMENT_MS,
    });
    pool.on('error', () => {});
    // A connection that breaks while it is out of the pool says so to its own listeners.
    pool.on('connect', (client) => client.on('error', () => {}));
    return pool;
  }
}

function isPossible(row: Row, writes: number): boolean {
  return writes >= row.acknowledged && writes <= row.acknowledged + row.doubtful;
}

function excuses(fault: Fault, node: number, pid: number | null): boolean {
  if (fault.through.includes(node)) return true;
  return pid === null ? fault.pids.length > 0 : fault.pids.includes(pid);
}
