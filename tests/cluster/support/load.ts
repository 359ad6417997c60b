import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { must } from '../../../src/core/assert.ts';
import { messageOf } from '../../../src/core/errors.ts';
import { Ledger } from '../../../src/local/ledger.ts';
import { createTable, type LocalCluster } from '../../support/cluster.ts';

/**
 * Every writer has this many of the rows that are there from the start; it updates them and adds rows of its
 * own.
 */
const BASE_PER_WRITER = 500;
const KEYS_PER_WRITER = 1_000_000;

interface Writer {
  readonly index: number;
  readonly keys: number[];
  inserted: number;
  serial: number;
}

export interface WriteSample {
  readonly node: number;
  readonly beganMs: number;
  readonly tookMs: number;
}

export interface LoadOptions {
  readonly table: string;
  /** Nodes the statements go through, in turn. */
  readonly nodes: readonly number[];
  readonly writers?: number;
  readonly readers?: number;
  readonly counters?: number;
  readonly partitions?: number;
  readonly replicas?: number;
}

/**
 * Traffic with a ledger: writers on keys of their own (autocommit and transactions over several partitions),
 * point readers, and counters of all rows that are there from the start. Whatever fails or misses rows is
 * kept with its details.
 */
export class Load {
  readonly ledger = new Ledger();
  readonly failures: string[] = [];
  readonly incomplete: string[] = [];
  readonly writes: WriteSample[] = [];
  readonly done = { inserts: 0, updates: 0, transactions: 0, reads: 0, counts: 0 };
  readonly table: string;
  nodes: number[];
  readonly #cluster: LocalCluster;
  readonly #options: LoadOptions;
  readonly #writers: Writer[];
  readonly #stopping = new AbortController();
  #workers: Promise<void>[] = [];
  #turn = 0;

  private constructor(cluster: LocalCluster, options: LoadOptions) {
    this.#cluster = cluster;
    this.#options = options;
    this.table = options.table;
    this.nodes = [...options.nodes];
    this.#writers = Array.from({ length: options.writers ?? 4 }, (_, index) => ({
      index,
      keys: [],
      inserted: 0,
      serial: 0,
    }));
  }

  /** Creates the table with its first rows. */
  static async prepare(cluster: LocalCluster, options: LoadOptions): Promise<Load> {
    const load = new Load(cluster, options);
    const { partitions = 8, replicas = 2 } = options;
    const columns = 'id bigint PRIMARY KEY, value text NOT NULL, writes integer NOT NULL';
    await createTable(cluster, `CREATE TABLE ${load.table} (${columns})`, { partitions, replicas });
    for (const writer of load.#writers) {
      for (let n = 0; n < BASE_PER_WRITER; n++) {
        const key = -(writer.index * BASE_PER_WRITER + n);
        writer.keys.push(key);
        load.ledger.acknowledge(key, 'base');
      }
    }
    const sql = `INSERT INTO ${load.table} SELECT -n, 'base', 1 FROM generate_series(0, $1::int - 1) n`;
    await cluster.sql(must(load.nodes[0], 'node')).query(sql, [load.baseRows]);
    return load;
  }

  get baseRows(): number {
    return this.#writers.length * BASE_PER_WRITER;
  }

  start(): this {
    const { readers = 2, counters = 1 } = this.#options;
    this.#workers = [
      ...this.#writers.map((writer) => this.#loop(5, () => this.#write(writer))),
      ...Array.from({ length: readers }, () => this.#loop(5, () => this.#read())),
      ...Array.from({ length: counters }, () => this.#loop(50, () => this.#count())),
    ];
    return this;
  }

  /** Lets every statement under way come to its end. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#workers);
  }

  /** Longest of the writes that were under way between two moments of `performance.now()`, milliseconds. */
  longestWriteMs(fromMs: number, toMs: number = performance.now(), nodes?: readonly number[]): number {
    const seen = this.writes.filter(
      (w) => w.beganMs + w.tookMs >= fromMs && w.beganMs <= toMs && (nodes?.includes(w.node) ?? true),
    );
    return Math.max(0, ...seen.map((w) => w.tookMs));
  }

  /** Writes that came to their end between two moments. */
  writesBetween(fromMs: number, toMs: number): number {
    return this.writes.filter((w) => w.beganMs + w.tookMs >= fromMs && w.beganMs + w.tookMs <= toMs).length;
  }

  /** Rests as long as it has worked, so that a busy machine is left to what is tested. */
  async #loop(pauseMs: number, work: () => Promise<void>): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const beganMs = performance.now();
      await work();
      const restMs = Math.max(pauseMs, performance.now() - beganMs);
      await sleep(restMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
    }
  }

  async #write(writer: Writer): Promise<void> {
    const turn = writer.serial++;
    if (turn % 3 === 0) return this.#insert(writer);
    if (turn % 3 === 1) return this.#update(writer);
    return this.#transaction(writer, turn % 2 === 0 ? 'READ COMMITTED' : 'REPEATABLE READ');
  }

  async #insert(writer: Writer): Promise<void> {
    const key = nextKey(writer);
    const value = `${key}.${writer.serial}`;
    const ok = await this.#timed(async (client) => {
      await client.query(`INSERT INTO ${this.table} VALUES ($1, $2, 1)`, [key, value]);
    });
    this.#settle(writer, ok, [[key, value]]);
    if (ok) this.done.inserts += 1;
  }

  async #update(writer: Writer): Promise<void> {
    const key = takeKey(writer);
    const value = `${key}.${writer.serial}`;
    const ok = await this.#timed((client) => this.#updateRow(client, key, value));
    this.#settle(writer, ok, [[key, value]]);
    if (ok) this.done.updates += 1;
  }

  async #transaction(writer: Writer, level: string): Promise<void> {
    const first = takeKey(writer);
    const second = takeKey(writer);
    const added = nextKey(writer);
    const value = `t${writer.serial}`;
    const ok = await this.#use('transaction', async (client) => {
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      await this.#updateRow(client, first, value);
      await client.query(`INSERT INTO ${this.table} VALUES ($1, $2, 1)`, [added, value]);
      await this.#updateRow(client, second, value);
      const { rows } = await client.query(`SELECT value FROM ${this.table} WHERE id IN ($1, $2, $3)`, [
        first,
        second,
        added,
      ]);
      if (rows.length !== 3 || rows.some((r) => r.value !== value))
        throw new Error(`own writes read as ${JSON.stringify(rows)}`);
      await client.query('COMMIT');
    });
    this.#settle(writer, ok, [
      [first, value],
      [second, value],
      [added, value],
    ]);
    if (ok) this.done.transactions += 1;
  }

  async #updateRow(client: pg.PoolClient, key: number, value: string): Promise<void> {
    const sql = `UPDATE ${this.table} SET value = $2, writes = writes + 1 WHERE id = $1`;
    const { rowCount } = await client.query(sql, [key, value]);
    if (rowCount !== 1) throw new Error(`update of own row ${key} found ${rowCount} rows`);
  }

  async #read(): Promise<void> {
    const key = -Math.floor(Math.random() * this.baseRows);
    await this.#use('read', async (client, node) => {
      const { rows } = await client.query(`SELECT id FROM ${this.table} WHERE id = $1`, [key]);
      if (rows.length !== 1) this.incomplete.push(`row ${key} through node ${node}: ${rows.length} rows`);
      this.done.reads += 1;
    });
  }

  async #count(): Promise<void> {
    await this.#use('count', async (client, node) => {
      const { rows } = await client.query<{ n: string; ids: string }>(
        `SELECT count(*) AS n, count(DISTINCT id) AS ids FROM ${this.table} WHERE id <= 0`,
      );
      const [row] = rows;
      if (Number(row?.n) !== this.baseRows || Number(row?.ids) !== this.baseRows)
        this.incomplete.push(`count through node ${node}: ${row?.n} rows, ${row?.ids} keys of ${this.baseRows}`);
      this.done.counts += 1;
    });
  }

  #settle(writer: Writer, ok: boolean, written: readonly [number, string][]): void {
    for (const [key, value] of written) {
      if (ok) {
        this.ledger.acknowledge(key, value);
        writer.keys.push(key);
      } else this.ledger.doubt(key, value);
    }
  }

  async #timed(work: (client: pg.PoolClient) => Promise<void>): Promise<boolean> {
    return this.#use('write', async (client, node) => {
      const beganMs = performance.now();
      try {
        await work(client);
      } finally {
        this.writes.push({ node, beganMs, tookMs: performance.now() - beganMs });
      }
    });
  }

  async #use(kind: string, work: (client: pg.PoolClient, node: number) => Promise<void>): Promise<boolean> {
    const node = must(this.nodes[this.#turn++ % this.nodes.length], 'node');
    let client: pg.PoolClient | undefined;
    try {
      client = await this.#cluster.sql(node).connect();
      await work(client, node);
      client.release();
      return true;
    } catch (error) {
      client?.release(true);
      const state = error instanceof pg.DatabaseError ? ` [${error.code}]` : '';
      this.failures.push(`${kind} through node ${node}:${state} ${messageOf(error)}`);
      return false;
    }
  }
}

function nextKey(writer: Writer): number {
  return (writer.index + 1) * KEYS_PER_WRITER + writer.inserted++;
}

/** Out of the pool while it is written: only an acknowledged write puts it back. */
function takeKey(writer: Writer): number {
  const at = Math.floor(Math.random() * writer.keys.length);
  const key = must(writer.keys[at], 'key');
  writer.keys[at] = must(writer.keys.at(-1), 'key');
  writer.keys.pop();
  return key;
}
