import pg from 'pg';
import { TIDE_DATABASE, TIDE_MANAGER, TIDE_PEER, TIDE_STREAM } from './config.ts';
import { FOREIGN_OPTIONS, ownOptions, SENDER_OPTIONS } from './shield.ts';

/**
 * How a PostgreSQL is reached: by processes of pgtide, and by other servers through what pgtide writes into
 * them. Who comes, as which role and how much it may take is said here and nowhere else.
 */

export interface Address {
  host: string;
  port: number;
}

/** The PostgreSQL of this node. */
export function ownServer({ port }: { readonly port: number }): Address {
  return { host: '127.0.0.1', port };
}

export interface SessionOptions {
  /** Its application name: one that begins with `pgtide ` is no client's (`sql/waits.ts`, `sessions.ts`). */
  name: `pgtide ${string}`;
  /** Whom it comes as; the manager where left out. */
  role?: string;
  /** That of pgtide where left out. */
  database?: string;
  /** How long connecting may take, milliseconds. */
  connectMs: number;
  /** How long an answer may take, milliseconds; as long as it takes where left out. */
  answerMs?: number;
  /** Settings beside, or instead of, those that every session of pgtide has (`shield.ts`). */
  settings?: Readonly<Record<string, string>>;
}

/**
 * A session that is still to be connected. One that breaks while nobody waits for it ends no process: the
 * next statement says so.
 */
export function sessionOf(address: Address, options: SessionOptions): pg.Client {
  const client = new pg.Client(configOf(address, options));
  client.on('error', () => {});
  return client;
}

/** A session that ends with the work, or with `signal`. Throws what connecting or the work throws. */
export async function inSession<T>(
  address: Address,
  options: SessionOptions,
  work: (client: pg.Client) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const client = sessionOf(address, options);
  const end = () => client.end().catch(() => {});
  signal?.addEventListener('abort', end);
  try {
    await client.connect();
    return await work(client);
  } finally {
    signal?.removeEventListener('abort', end);
    await end();
  }
}

/** Sessions that are kept for reuse; at most `max`, each for `idleMs` after its last use. */
export function poolOf(
  address: Address,
  { max, idleMs, ...options }: SessionOptions & { max: number; idleMs: number },
): pg.Pool {
  const pool = new pg.Pool({ ...configOf(address, options), max, idleTimeoutMillis: idleMs, keepAlive: true });
  // Without listeners a connection that breaks would end the process, idle or in use; the next statement
  // reports it.
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}

function configOf({ host, port }: Address, options: SessionOptions): pg.ClientConfig {
  const { name, role = TIDE_MANAGER, database = TIDE_DATABASE, connectMs, answerMs, settings } = options;
  return {
    host,
    port,
    user: role,
    database,
    // Not what the environment says, which is somebody else's.
    ssl: false,
    application_name: name,
    connectionTimeoutMillis: connectMs,
    ...(answerMs === undefined ? {} : { query_timeout: answerMs }),
    options: ownOptions(settings),
  };
}

/**
 * libpq's settings for connections between nodes (PostgreSQL manual, 34.1.2): a peer that has vanished
 * without a word is given up after 20 s, whether the connection is idle, waits for an answer (keepalives) or
 * has sent what nobody acknowledges (tcp_user_timeout, ms). By the system's own defaults that would take two
 * hours. Servers do the same with their clients (`config.ts`).
 */
const PEER = {
  connect_timeout: '5',
  keepalives_idle: '5',
  keepalives_interval: '5',
  keepalives_count: '3',
  tcp_user_timeout: '20000',
};

type Keywords = Readonly<Record<string, string>>;

/** For a subscription: how the receiver of a stream reaches its sender, as CONNECTION takes it. */
export function streamConnection({ host, port }: Address, stream: string): string {
  const to = { host, port: String(port), dbname: TIDE_DATABASE, user: TIDE_STREAM, application_name: stream };
  return conninfo({ ...to, ...PEER, options: SENDER_OPTIONS });
}

/** The options of a foreign server. */
export function foreignConnection({ host, port }: Address, name: string): Keywords {
  return { host, port: String(port), dbname: TIDE_DATABASE, application_name: name, ...PEER, options: FOREIGN_OPTIONS };
}

/** The options of the mapping of whoever comes through such a server. */
export const FOREIGN_USER: Keywords = { user: TIDE_PEER, password_required: 'false' };

/**
 * A connection string of libpq (PostgreSQL manual, 34.1.1.1): in quotes, with a backslash before quotes and
 * backslashes.
 */
function conninfo(keywords: Keywords): string {
  const quoted = (value: string) => `'${value.replace(/[\\']/g, '\\$&')}'`;
  return Object.entries(keywords)
    .map(([name, value]) => `${name}=${quoted(value)}`)
    .join(' ');
}
