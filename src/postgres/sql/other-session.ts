import pg from 'pg';
import type { NodeId } from '../../catalog/model.ts';
import { messageOf, TideError, tideError } from '../../core/errors.ts';
import { TIDE_DATABASE, TIDE_MANAGER, TIDE_USER } from '../config.ts';
import { ownOptions } from '../shield.ts';
import type { Address, Sql } from './client.ts';
import type { InDatabase } from './weaken.ts';

/** Sessions of pgtide's own that are not the manager's in its database. */

const CONNECT_MS = 3_000;
const STATEMENT_MS = 15_000;

/** In other databases, as the manager; no trigger of theirs runs at the login. */
export function inDatabase(address: Address): InDatabase {
  return async (database, work) => {
    const client = clientOf(address, { user: TIDE_MANAGER, database }, { event_triggers: 'off' });
    try {
      await client.connect();
      return await work(sqlOf(client));
    } finally {
      await client.end().catch(() => {});
    }
  };
}

/** As a client: what runs there has a client's rights. Throws NODE_UNREACHABLE, also where there is no room for a client. */
export async function asUser<T>(node: NodeId, address: Address, work: (sql: Sql) => Promise<T>): Promise<T> {
  const client = clientOf(address, { user: TIDE_USER, database: TIDE_DATABASE });
  try {
    await client.connect();
    return await work(sqlOf(client));
  } catch (error) {
    const isAnswer = error instanceof TideError || (error instanceof pg.DatabaseError && error.severity !== 'FATAL');
    throw isAnswer ? error : tideError('NODE_UNREACHABLE', { node, why: messageOf(error) }, error);
  } finally {
    await client.end().catch(() => {});
  }
}

function clientOf({ host, port }: Address, who: { user: string; database: string }, more: Record<string, string> = {}) {
  const client = new pg.Client({
    host,
    port,
    ...who,
    application_name: 'pgtide session',
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: STATEMENT_MS,
    options: ownOptions({ ...more, synchronous_commit: 'local' }),
  });
  client.on('error', () => {});
  return client;
}

function sqlOf(client: pg.Client): Sql {
  return { query: async (text, values) => (await client.query(text, values)).rows };
}
