import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { must } from '../core/assert.ts';
import { messageOf } from '../core/errors.ts';
import type { Ledger } from '../local/ledger.ts';
import type { CityBook } from './cities.ts';
import { type StatementKind, TrafficStats } from './traffic-stats.ts';

/** `writes` is raised by every update: a lost one in the middle of a row's life shows too. */
export const TRAFFIC_SQL = `CREATE TABLE traffic (
  id bigint PRIMARY KEY,
  value text NOT NULL,
  writes integer NOT NULL
)`;

/**
 * Eight connections: enough to be at work on every node all the time, few enough to leave two cores for the
 * moves.
 */
const CLERKS = 5;
const CLERK_PAUSE_MS = 20;
const COUNTER_PAUSE_MS = 800;
/** How long a spanning transaction stays open, so that moves begin and end within it. */
const TRANSACTION_HOLDS_MS = [50, 600] as const;
const TRANSACTION_PAUSE_MS = 400;
const STATEMENT_MS = 15_000;
const CONNECT_MS = 5_000;
/** Keys of one writer: it inserts at the end and updates what it has. */
const KEYS_PER_WRITER = 1_000_000;

const INSERT = 'INSERT INTO traffic (id, value, writes) VALUES ($1, $2, 1)';
const UPDATE = 'UPDATE traffic SET value = $2, writes = writes + 1 WHERE id = $1';

interface Target {
  readonly id: number;
  readonly pool: pg.Pool;
  inUse: number;
}

/** A writer's own keys, each its index in the ledger's key space. */
interface Writer {
  readonly firstKey: number;
  /** Keys that may be updated; one whose last write is in doubt is not among them. */
  readonly keys: number[];
  inserted: number;
  serial: number;
}

/**
 * Live traffic through all nodes in turn: point reads checked against the source, inserts and updates kept in
 * the ledger, full counts, and transactions that read, stay open for a while and then write, at both
 * isolation levels that span moves. Every worker waits for each answer before its next statement.
 */
export class Traffic {
  readonly stats = new TrafficStats();
  readonly #book: CityBook;
  readonly #ledger: Ledger;
  readonly #targets = new Map<number, Target>();
  readonly #stopping = new AbortController();
  #workers: Promise<void>[] = [];
  #turn = 0;

  constructor(book: CityBook, ledger: Ledger) {
    this.#book = book;
    this.#ledger = ledger;
  }

  /** Takes the node at `address` (HOST:PORT) into rotation. */
  addNode(id: number, address: string): void {
    const [host, port] = address.split(':');
    const pool = new pg.Pool({
      host: must(host, 'host'),
      port: Number(port),
      user: 'tide',
      database: 'tide',
      max: CLERKS + 3,
      connectionTimeoutMillis: CONNECT_MS,
      statement_timeout: STATEMENT_MS,
      query_timeout: STATEMENT_MS + 1_000,
      application_name: 'tide-demo',
    });
    pool.on('error', () => {});
    pool.on('connect', (client) => client.on('error', () => {}));
    this.#targets.set(id, { id, pool, inUse: 0 });
  }

  /** Takes a node out of rotation; back when nothing runs there any more. */
  async removeNode(id: number): Promise<void> {
    const target = must(this.#targets.get(id), `node ${id} in rotation`);
    this.#targets.delete(id);
    while (target.inUse > 0) await sleep(10);
    await target.pool.end();
  }

  get nodes(): number[] {
    return [...this.#targets.keys()];
  }

  start(): void {
    const clerks = Array.from({ length: CLERKS }, (_, index) => this.#clerk(newWriter(index)));
    const spanning = (['READ COMMITTED', 'REPEATABLE READ'] as const).map((level, index) =>
      this.#transactor(level, newWriter(CLERKS + index)),
    );
    this.#workers = [...clerks, ...spanning, this.#counter()];
  }

  /** Lets every statement under way come to its end. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#workers);
    await Promise.all([...this.#targets.values()].map((target) => target.pool.end()));
    this.#targets.clear();
  }

  async #clerk(writer: Writer): Promise<void> {
    for (let turn = 0; !this.#stopping.signal.aborted; turn++) {
      if (turn % 2 === 0) await this.#readCity();
      else if (turn % 4 === 1 || writer.keys.length === 0) await this.#insert(writer);
      else await this.#update(writer);
      await this.#pause(CLERK_PAUSE_MS);
    }
  }

  async #counter(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await this.#use('count', async (client) => {
        const { rows } = await client.query<{ n: string }>('SELECT count(*) AS n FROM cities');
        if (Number(rows[0]?.n) !== this.#book.count)
          throw new MissedRow(`counted ${rows[0]?.n} of ${this.#book.count} cities`);
      });
      await this.#pause(COUNTER_PAUSE_MS);
    }
  }

  async #transactor(level: string, writer: Writer): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      if (writer.keys.length < 50) await this.#insert(writer);
      else await this.#spanningTransaction(level, writer);
      await this.#pause(writer.keys.length < 50 ? CLERK_PAUSE_MS : TRANSACTION_PAUSE_MS);
    }
  }

  async #readCity(): Promise<void> {
    await this.#use('read', async (client) => await this.#checkCity(client));
  }

  async #checkCity(client: pg.PoolClient): Promise<void> {
    const city = this.#book.at(Math.floor(Math.random() * this.#book.count));
    const { rows } = await client.query<{ name: string; country: string; population: string }>(
      'SELECT name, country, population FROM cities WHERE id = $1',
      [city.id],
    );
    const [row] = rows;
    if (!row) throw new MissedRow(`city ${city.id} was not found`);
    if (
      rows.length !== 1 ||
      row.name !== city.name ||
      row.country !== city.country ||
      Number(row.population) !== city.population
    ) {
      throw new Error(`city ${city.id} was read as ${JSON.stringify(rows)}`);
    }
  }

  async #insert(writer: Writer): Promise<void> {
    const key = writer.firstKey + writer.inserted++;
    await this.#write('insert', writer, key, async (client, value) => {
      await client.query(INSERT, [key, value]);
    });
  }

  async #update(writer: Writer): Promise<void> {
    const key = takeKey(writer);
    await this.#write('update', writer, key, async (client, value) => {
      const { rowCount } = await client.query(UPDATE, [key, value]);
      if (rowCount !== 1) throw new MissedRow(`update of own row ${key} found ${rowCount} rows`);
    });
  }

  /** Reads what is about to be moved, stays open, and writes it when it may have moved. */
  async #spanningTransaction(level: string, writer: Writer): Promise<void> {
    const key = takeKey(writer);
    const expected = this.#ledger.expected(key);
    await this.#write('transaction', writer, key, async (client, value) => {
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      const { rows } = await client.query<{ value: string }>('SELECT value FROM traffic WHERE id = $1', [key]);
      if (rows.length !== 1) throw new MissedRow(`own row ${key} was read as ${rows.length} rows`);
      if (rows[0]?.value !== expected.value) throw new Error(`own row ${key} was read with an older value`);
      await this.#checkCity(client);
      const [least, most] = TRANSACTION_HOLDS_MS;
      await sleep(least + Math.random() * (most - least));
      const { rowCount } = await client.query(UPDATE, [key, value]);
      if (rowCount !== 1) throw new MissedRow(`update of own row ${key} found ${rowCount} rows`);
      await client.query('COMMIT');
    });
  }

  async #write(
    kind: StatementKind,
    writer: Writer,
    key: number,
    statement: (client: pg.PoolClient, value: string) => Promise<void>,
  ): Promise<void> {
    const value = `${key}.${writer.serial++}`;
    const done = await this.#use(kind, async (client) => await statement(client, value));
    if (done) {
      this.#ledger.acknowledge(key, value);
      this.stats.acknowledged();
      writer.keys.push(key);
    } else {
      this.#ledger.doubt(key, value);
    }
  }

  /**
   * Runs one exchange with the next node in turn; false when it failed. A session in an unknown state is not
   * used again.
   */
  async #use(kind: StatementKind, exchange: (client: pg.PoolClient) => Promise<void>): Promise<boolean> {
    const target = this.#nextTarget();
    target.inUse += 1;
    const begin = performance.now();
    let client: pg.PoolClient | null = null;
    let failure: unknown = null;
    try {
      client = await target.pool.connect();
      await exchange(client);
    } catch (error) {
      failure = error;
    }
    client?.release(failure !== null);
    target.inUse -= 1;
    this.stats.answered(target.id, kind, kind === 'transaction' ? null : performance.now() - begin);
    if (failure === null) return true;
    if (failure instanceof MissedRow) this.stats.incomplete(target.id, kind, failure.message);
    else this.stats.failure(target.id, kind, messageOf(failure), sqlstateOf(failure));
    return false;
  }

  #nextTarget(): Target {
    const targets = [...this.#targets.values()];
    return must(targets[this.#turn++ % targets.length], 'node in rotation');
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stopping.signal }).catch(() => {});
  }
}

/** A statement did not see rows that were there. */
class MissedRow extends Error {}

function newWriter(index: number): Writer {
  return { firstKey: index * KEYS_PER_WRITER + 1, keys: [], inserted: 0, serial: 0 };
}

/** Out of the pool while it is written: only an acknowledged write puts it back. */
function takeKey(writer: Writer): number {
  const index = Math.floor(Math.random() * writer.keys.length);
  const key = must(writer.keys[index], 'key');
  writer.keys[index] = must(writer.keys.at(-1), 'key');
  writer.keys.pop();
  return key;
}

function sqlstateOf(error: unknown): string | null {
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null;
}
