import pg from 'pg';
import type { NodeId } from '../../catalog/model.ts';
import { messageOf, TideError, tideError } from '../../core/errors.ts';
import { TIDE_USER } from '../config.ts';
import { type Address, inSession, type SessionOptions } from '../connect.ts';
import { type Sql, sqlOf } from './client.ts';
import type { InDatabase } from './weaken.ts';

/** Sessions of pgtide's own that are not the manager's in its database. */

const SESSION: SessionOptions = { name: 'pgtide session', connectMs: 3_000, answerMs: 15_000 };
const settings = { synchronous_commit: 'local' };

/** In other databases, as the manager; no trigger of theirs runs at the login. */
export function inDatabase(address: Address): InDatabase {
  const quiet = { event_triggers: 'off', ...settings };
  return (database, work) =>
    inSession(address, { ...SESSION, database, settings: quiet }, (client) => work(sqlOf(client)));
}

/**
 * As a client: what runs there has a client's rights. Throws NODE_UNREACHABLE, also where there is no room
 * for a client.
 */
export async function asUser<T>(node: NodeId, address: Address, work: (sql: Sql) => Promise<T>): Promise<T> {
  try {
    return await inSession(address, { ...SESSION, role: TIDE_USER, settings }, (client) => work(sqlOf(client)));
  } catch (error) {
    const isAnswer = error instanceof TideError || (error instanceof pg.DatabaseError && error.severity !== 'FATAL');
    throw isAnswer ? error : tideError('NODE_UNREACHABLE', { node, why: messageOf(error) }, error);
  }
}
