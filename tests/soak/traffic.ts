import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { must } from '../../src/core/assert.ts';
import { messageOf } from '../../src/core/errors.ts';
import { Ledger } from '../../src/local/ledger.ts';
import type { Random } from '../fakes/random.ts';
import type { World } from './world.ts';

const BASE_ROWS = 5_000;
const KEYS_PER_WRITER = 1_000_000;
const WRITERS = 3;
const WRITER_PAUSE_MS = 40;
const READER_PAUSE_MS = 40;
const COUNTER_PAUSE_MS = 700;
const STATEMENT_MS = 30_000;
/** Transactions of bystanders stay open for so long, reading or writing. */
const LONG_MS = [1_000, 12_000] as const;

interface Writer {
  readonly firstKey: number;
  readonly keys: number[];
  inserted: number;
  serial: number;
}

/** A table of the soak, with the ledger of what it has to hold. */
export class Book {
  readonly table: string;
  readonly partitions: number;
  readonly sql: string;
  readonly ledger = new Ledger();
  /** `$1` as the key's type. */
  readonly key: string;

  constructor(table: string, key: 'bigint' | 'text', partitions: number) {
    this.table = table;
    this.partitions = partitions;
    this.key = `$1::${key}`;
    const index = key === 'text' ? `; CREATE INDEX ON ${table} (value)` : '';
    this.sql = `CREATE TABLE ${table} (id ${key} PRIMARY KEY, value text NOT NULL, writes integer NOT NULL, pad text DEFAULT repeat('x', 400))${index}`;
  }
}

/** A statement did not see what had to be there: no fault excuses that. */
class Wrong extends Error {}

type Statement = (client: pg.PoolClient) => Promise<void>;

/**
 * Traffic on one table through all members: prepared and plain statements on a pool, transactions over
 * several partitions, long ones of bystanders that read or write, clients that die in the middle of one, and
 * counts of what was there from the start.
 */
export class Traffic {
  readonly book: Book;
  readonly #world: World;
  readonly #random: Random;
  readonly #pools = new Map<number, pg.Pool>();
  readonly #writers: Writer[];
  #workers: Promise<void>[] = [];
  #inUse = new Map<number, number>();

  constructor(world: World, book: Book) {
    this.#world = world;
    this.#random = world.random.fork();
    this.book = book;
    this.#writers = Array.from({ length: WRITERS + 1 }, (_, index) => ({
      firstKey: (index + 1) * KEYS_PER_WRITER,
      keys: [],
      inserted: 0,
      serial: 0,
    }));
  }

  /** The rows that are there from the start, keys 1 to `BASE_ROWS`, a share of them to every writer. */
  async load(): Promise<void> {
    const { table, ledger } = this.book;
    const node = must([...this.#world.members][0], 'a member');
    const insert = `INSERT INTO ${table} SELECT n, 'base', 1 FROM generate_series(1, ${BASE_ROWS}) n`;
    await this.#world.cluster.sql(node).query(insert);
    for (let key = 1; key <= BASE_ROWS; key++) {
      ledger.acknowledge(key, 'base');
      must(this.#writers[key % this.#writers.length], 'writer').keys.push(key);
    }
  }

  start(): void {
    const [bystander, ...writers] = this.#writers;
    this.#workers = [
      ...writers.map((w) => this.#loop(WRITER_PAUSE_MS, () => this.#write(w))),
      this.#loop(READER_PAUSE_MS, () => this.#read()),
      this.#loop(COUNTER_PAUSE_MS, () => this.#count()),
      this.#loop(2_000, () => this.#long(must(bystander, 'writer'))),
    ];
  }

  async end(): Promise<void> {
    await Promise.all(this.#workers);
    await Promise.all([...this.#pools.values()].map((pool) => pool.end()));
  }

  /** Returns when nothing runs through the node any more; it is no member by then. */
  async leave(node: number): Promise<void> {
    while ((this.#inUse.get(node) ?? 0) > 0) await sleep(50);
    const pool = this.#pools.get(node);
    this.#pools.delete(node);
    await pool?.end();
  }

  async #loop(pauseMs: number, work: () => Promise<void>): Promise<void> {
    while (!this.#world.stopping) {
      await work();
      await this.#world.pause(pauseMs * this.#random.between(0.5, 1.5));
    }
  }

  async #write(writer: Writer): Promise<void> {
    const kind = this.#random.weighted({ insert: 3, update: 4, transaction: 3, die: 0.2 });
    if (kind === 'insert' || writer.keys.length < 50) return this.#insert(writer);
    if (kind === 'update') return this.#update(writer);
    if (kind === 'transaction') return this.#transaction(writer);
    return this.#dieInTransaction(writer);
  }

  async #insert(writer: Writer): Promise<void> {
    const key = writer.firstKey + writer.inserted++;
    const value = this.#valueOf(writer);
    const sql = `INSERT INTO ${this.book.table} VALUES (${this.book.key}, $2, 1)`;
    const ok = await this.#use('insert', [key], async (client) => {
      await client.query({ name: 'insert', text: sql, values: [key, value] });
    });
    this.#settle(writer, ok, [key], value);
  }

  async #update(writer: Writer): Promise<void> {
    const key = this.#take(writer);
    const value = this.#valueOf(writer);
    const ok = await this.#use('update', [key], (client) => this.#updateRow(client, key, value));
    this.#settle(writer, ok, [key], value);
  }

  async #transaction(writer: Writer): Promise<void> {
    const keys = [this.#take(writer), this.#take(writer), this.#take(writer)];
    const value = this.#valueOf(writer);
    const level = this.#random.pick(['READ COMMITTED', 'REPEATABLE READ']);
    const ok = await this.#use(`transaction (${level})`, keys, async (client) => {
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      for (const key of keys) await this.#expectOwn(client, key);
      await this.#world.pause(this.#random.between(0, 300));
      for (const key of keys) await this.#updateRow(client, key, value);
      await client.query('COMMIT');
    });
    this.#settle(writer, ok, keys, value);
  }

  /** Reads or writes, stays open for seconds, and then ends in one of the ways there are. */
  async #long(writer: Writer): Promise<void> {
    const [least, most] = LONG_MS;
    const holdMs = this.#random.between(least, most);
    const key = this.#take(writer);
    const other = this.#take(writer);
    const value = this.#valueOf(writer);
    const kind = this.#random.pick(['reads', 'writes', 'reads, then writes', 'writes, then rolls back']);
    const writes = kind !== 'reads';
    const ok = await this.#use(`long transaction (${kind})`, [key, other], async (client) => {
      await client.query(`BEGIN ISOLATION LEVEL ${this.#random.pick(['READ COMMITTED', 'REPEATABLE READ'])}`);
      if (kind.startsWith('reads')) for (const k of [key, other]) await this.#expectOwn(client, k);
      else await this.#updateRow(client, key, value);
      await this.#world.pause(holdMs);
      if (kind === 'reads, then writes') await this.#updateRow(client, key, value);
      if (writes) await this.#updateRow(client, other, value);
      await client.query(kind === 'writes, then rolls back' ? 'ROLLBACK' : 'COMMIT');
    });
    if (writes && kind !== 'writes, then rolls back') this.#settle(writer, ok, [key, other], value);
    else writer.keys.push(key, other);
  }

  /** The client is gone before its COMMIT: nothing of it may stand. */
  async #dieInTransaction(writer: Writer): Promise<void> {
    const key = this.#take(writer);
    await this.#use('transaction of a client that dies', [key], async (client) => {
      await client.query('BEGIN');
      await this.#updateRow(client, key, 'never committed');
      await this.#world.pause(this.#random.between(0, 1_000));
      (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
      throw new Died('died');
    });
    await this.#world.pause(500);
    writer.keys.push(key);
  }

  async #read(): Promise<void> {
    const key = this.#random.int(1, BASE_ROWS);
    await this.#use('read', [key], async (client) => {
      const text = `SELECT id FROM ${this.book.table} WHERE id = ${this.book.key}`;
      const query = this.#random.chance(0.5) ? { name: 'read', text, values: [key] } : { text, values: [key] };
      const { rows } = await client.query(query);
      if (rows.length !== 1) throw new Wrong(`row ${key} was read as ${rows.length} rows`);
    });
  }

  async #count(): Promise<void> {
    await this.#use('count', null, async (client) => {
      const { rows } = await client.query<{ n: string; ids: string }>(
        `SELECT count(*) AS n, count(DISTINCT id) AS ids FROM ${this.book.table} WHERE id::bigint <= ${BASE_ROWS}`,
      );
      const [row] = rows;
      if (Number(row?.n) !== BASE_ROWS || Number(row?.ids) !== BASE_ROWS)
        throw new Wrong(`counted ${row?.n} rows with ${row?.ids} keys of ${BASE_ROWS}`);
    });
  }

  async #updateRow(client: pg.PoolClient, key: number, value: string): Promise<void> {
    const text = `UPDATE ${this.book.table} SET value = $2, writes = writes + 1 WHERE id = ${this.book.key}`;
    const query = this.#random.chance(0.5)
      ? { name: 'update', text, values: [key, value] }
      : { text, values: [key, value] };
    const { rowCount } = await client.query(query);
    if (rowCount !== 1) throw new Wrong(`update of own row ${key} found ${rowCount} rows`);
  }

  async #expectOwn(client: pg.PoolClient, key: number): Promise<void> {
    const sql = `SELECT value, writes FROM ${this.book.table} WHERE id = ${this.book.key}`;
    const { rows } = await client.query<{ value: string; writes: number }>(sql, [key]);
    const { value, writes } = this.book.ledger.expected(key);
    if (rows.length !== 1 || rows[0]?.value !== value || rows[0]?.writes !== writes)
      throw new Wrong(`own row ${key} was read as ${JSON.stringify(rows)} instead of ${value}, ${writes} writes`);
  }

  #settle(writer: Writer, ok: boolean, keys: readonly number[], value: string): void {
    for (const key of keys) {
      if (ok) {
        this.book.ledger.acknowledge(key, value);
        writer.keys.push(key);
      } else this.book.ledger.doubt(key, value);
    }
  }

  async #use(what: string, keys: readonly number[] | null, statement: Statement): Promise<boolean> {
    const through = this.#random.pick([...this.#world.members]);
    this.#inUse.set(through, (this.#inUse.get(through) ?? 0) + 1);
    const beganMs = performance.now();
    let client: pg.PoolClient | null = null;
    try {
      client = await this.#pool(through).connect();
      await statement(client);
      client.release();
      this.#world.count(`${what.split(' ')[0]}s answered`);
      return true;
    } catch (error) {
      client?.release(true);
      if (error instanceof Died) return false;
      if (error instanceof Wrong) this.#world.find(`${this.book.table} through node ${through}: ${error.message}`);
      else this.#failed(what, through, keys, beganMs, error);
      return false;
    } finally {
      this.#inUse.set(through, must(this.#inUse.get(through), 'use') - 1);
    }
  }

  #failed(what: string, through: number, keys: readonly number[] | null, beganMs: number, error: unknown): void {
    const state = error instanceof pg.DatabaseError ? `[${error.code}] ` : '';
    const detail = error instanceof pg.DatabaseError && error.where ? ` (${error.where})` : '';
    this.#world.failed({
      what,
      through,
      table: this.book.table,
      pids: async () => (keys === null ? null : await this.#pidsOf(keys)),
      beganMs,
      endedMs: performance.now(),
      message: `${state}${messageOf(error)}${detail}`,
    });
  }

  async #pidsOf(keys: readonly number[]): Promise<number[]> {
    const node = this.#random.pick(this.#world.calm);
    const { table, partitions, key } = this.book;
    const pids = `SELECT p FROM generate_series(0, ${partitions - 1}) p
      WHERE satisfies_hash_partition('${table}'::regclass, ${partitions}, p, ${key})`;
    const found: number[] = [];
    for (const k of keys) {
      const { rows } = await this.#world.cluster.postgres(node).query<{ p: number }>(pids, [k]);
      found.push(must(rows[0], 'partition').p);
    }
    return found;
  }

  #valueOf(writer: Writer): string {
    return `${writer.firstKey}.${writer.serial++}`;
  }

  /** Out of the writer's keys while it is written: only an answer puts it back. */
  #take(writer: Writer): number {
    const at = this.#random.int(0, writer.keys.length - 1);
    const key = must(writer.keys[at], 'key');
    writer.keys[at] = must(writer.keys.at(-1), 'key');
    writer.keys.pop();
    return key;
  }

  #pool(node: number): pg.Pool {
    const found = this.#pools.get(node);
    if (found) return found;
    const [host, port] = this.#world.cluster.node(node).address.split(':');
    const pool = new pg.Pool({
      host: must(host, 'host'),
      port: Number(port),
      user: 'tide',
      database: 'tide',
      max: WRITERS + 4,
      connectionTimeoutMillis: 15_000,
      query_timeout: STATEMENT_MS,
      application_name: 'tide-soak',
    });
    pool.on('error', () => {});
    pool.on('connect', (client) => client.on('error', () => {}));
    this.#pools.set(node, pool);
    return pool;
  }
}

/** The client ended itself. */
class Died extends Error {}
