import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, tideError } from '../core/errors.ts';
import { inSession, ownServer } from './connect.ts';
import { BOOTSTRAP_VERSION, bootstrapDatabase, bootstrappedBy } from './sql/bootstrap.ts';
import { sqlOf } from './sql/client.ts';
import { renewPartitionChecks } from './sql/partition-checks.ts';

const CONNECT_MS = 3_000;
const STATEMENT_MS = 30_000;

/**
 * Makes what pgtide needs in the database of this node as this version wants it, where another version made
 * it, or none: schemas, functions, event triggers. Called at every start, before the server serves; one
 * transaction. True where something was made. Throws NODE_UNREACHABLE.
 */
export async function bringDatabaseUpToDate(node: number, port: number): Promise<boolean> {
  // Of its own followers none is connected yet: a commit that waited for them would wait for ever. The guard
  // of version 0.1.0 asks for a setting.
  const settings = { 'tide.internal': 'on', synchronous_commit: 'local' };
  const options = { name: 'pgtide start', connectMs: CONNECT_MS, answerMs: STATEMENT_MS, settings } as const;
  try {
    return await inSession(ownServer({ port }), options, async (client) => {
      const sql = sqlOf(client);
      if ((await bootstrappedBy(sql)) === BOOTSTRAP_VERSION) return false;
      await bootstrapDatabase(sql);
      return true;
    });
  } catch (error) {
    throw tideError('NODE_UNREACHABLE', { node, why: messageOf(error) }, error);
  }
}

/** A manager of version 0.1.0 may still make old ones. */
const LOOK_MS = 30_000;
/** Where tables were in use, or the server does not answer. */
const AGAIN_MS = 2_000;

type Log = (level: 'info' | 'warn', message: string, facts: object) => void;

/**
 * Replaces what version 0.1.0 has left on this node's tables, for as long as the node runs, and in nobody's
 * way. Comes back with its end.
 */
export function keepChecksRenewed(port: number, log: Log): () => Promise<void> {
  const ending = new AbortController();
  const keeping = keep(port, log, ending.signal);
  return async () => {
    ending.abort();
    await keeping;
  };
}

async function keep(port: number, log: Log, signal: AbortSignal): Promise<void> {
  let before = '';
  while (!signal.aborted) {
    let afterMs = AGAIN_MS;
    try {
      const { renewed, inUse } = await renewOnce(port, signal);
      if (renewed > 0) log('info', 'constraints of version 0.1.0 were replaced', { tables: renewed, inUse });
      if (inUse === 0) afterMs = LOOK_MS;
      before = '';
    } catch (error) {
      const why = messageOf(error);
      // A server that is stopped, or about to be started again.
      if (!signal.aborted && why !== before)
        log('warn', 'constraints of version 0.1.0 could not be replaced', { error: why });
      before = why;
    }
    await sleep(afterMs, undefined, { signal }).catch(() => {});
  }
}

/** A connection of its own, whose statements may take their time. */
async function renewOnce(port: number, signal: AbortSignal) {
  const settings = { synchronous_commit: 'local' };
  const options = { name: 'pgtide upgrade', connectMs: CONNECT_MS, settings } as const;
  return inSession(ownServer({ port }), options, (client) => renewPartitionChecks(sqlOf(client)), signal);
}
