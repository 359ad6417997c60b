import { Client } from 'pg';
import { tideError } from '../core/errors.ts';
import { TIDE_DATABASE, TIDE_MANAGER, TIDE_USER } from './config.ts';
import { ownOptions } from './shield.ts';
import { BOOTSTRAP_VERSION, bootstrapDatabase, bootstrappedBy } from './sql/bootstrap.ts';
import type { Sql } from './sql/client.ts';

const STATEMENT_MS = 30_000;

/**
 * Makes what pgtide needs in the database of this node as this version wants it, where another version made it, or none: schemas, functions,
 * event triggers. Called at every start, before the server serves; one transaction. True where something was made. Throws NODE_UNREACHABLE.
 */
export async function bringDatabaseUpToDate(node: number, port: number): Promise<boolean> {
  const client = new Client({
    host: '127.0.0.1',
    port,
    user: TIDE_MANAGER,
    database: TIDE_DATABASE,
    application_name: 'pgtide start',
    connectionTimeoutMillis: 3_000,
    query_timeout: STATEMENT_MS,
    // Of its own followers none is connected yet: a commit that waited for them would wait for ever.
    options: ownOptions({ role: TIDE_USER, 'tide.internal': 'on', synchronous_commit: 'local' }),
  });
  client.on('error', () => {});
  const sql: Sql = { query: async (text, values) => (await client.query(text, values)).rows };
  try {
    await client.connect();
    if ((await bootstrappedBy(sql)) === BOOTSTRAP_VERSION) return false;
    await bootstrapDatabase(sql);
    return true;
  } catch (error) {
    throw tideError('NODE_UNREACHABLE', { node, why: (error as Error).message }, error);
  } finally {
    await client.end().catch(() => {});
  }
}
