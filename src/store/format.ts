import { tideError } from '../core/errors.ts';
import { type Condition, type Entry, FORMAT_KEY, META_FORMAT, type MetaStore, type Write } from './meta-store.ts';

/**
 * From the format that is the key to the next one: the entries that change. Where there is none, that is not
 * for whoever opens the store.
 */
const MIGRATIONS: Readonly<Record<number, (entries: readonly Entry[]) => Write[]>> = { 1: nameSteps };

/**
 * Brings a store to the newest format that needs nobody else, one format at a time, each in one transaction:
 * a crash leaves the one or the other. Throws STORE_TOO_NEW, with `where` it is, for one that a newer program
 * has written; nothing is changed then.
 */
export async function bringUpToDate(store: MetaStore, where: string): Promise<{ from: number | null; to: number }> {
  const written = await store.get(FORMAT_KEY);
  const isNew = written === null && (await store.range('/catalog/')).length === 0;
  const from = formatIn(written);
  requireReadable(written === null ? [] : [written], where);
  if (isNew) {
    await store.txn(step(META_FORMAT, 0, []));
    return { from: null, to: META_FORMAT };
  }
  let format = from;
  for (let migrate = MIGRATIONS[format]; migrate; migrate = MIGRATIONS[++format]) {
    const entries = await store.range('/');
    const revision = entries.find((e) => e.key === FORMAT_KEY)?.revision ?? 0;
    const { ok } = await store.txn(step(format + 1, revision, migrate(entries)));
    // Somebody else has migrated it meanwhile.
    if (!ok) return bringUpToDate(store, where);
  }
  return { from, to: format };
}

/** Throws STORE_TOO_NEW where these entries are of a store that this program cannot read. */
export function requireReadable(entries: readonly { key: string; value?: unknown }[], where: string): void {
  const found = formatIn(entries.find((e) => e.key === FORMAT_KEY) ?? null);
  if (found > META_FORMAT) throw tideError('STORE_TOO_NEW', { path: where, found, known: META_FORMAT });
}

/** The first format did not say so. */
function formatIn(entry: { value?: unknown } | null): number {
  return entry === null ? 1 : (entry.value as { version: number }).version;
}

function step(version: number, revision: number, write: Write[]): { when: Condition[]; write: Write[] } {
  return { when: [{ key: FORMAT_KEY, revision }], write: [...write, { put: FORMAT_KEY, value: { version } }] };
}

/**
 * Operations of format 1 had the number of their step only; what that is called tells a program with more
 * steps where to go on.
 */
function nameSteps(entries: readonly Entry[]): Write[] {
  return entries.flatMap(({ key, value }) => {
    const steps = key.startsWith('/op/') ? STEPS_1[(value as { kind: string }).kind] : undefined;
    return steps ? [{ put: key, value: { ...(value as object), steps } }] : [];
  });
}

const ADD = ['claim-replica', 'create-replica-table', 'connect-nodes', 'copy-rows', 'catch-up', 'connect-followers'];
const LEAD = ['begin-change', 'connect-target', 'prepare-forward', 'swing', 'publish-leader', 'localise-target'];
const ADD_ALL = [...ADD, 'count-replica'];
const LEAD_ALL = [...LEAD, 'repoint-source', 'drop-forward'];
const REMOVE_ALL = ['retire-replica', 'stop-streams', 'drop-rows', 'forget-replica'];

/** As they were; never changed. */
const STEPS_1: Readonly<Record<string, readonly string[]>> = {
  'add-replica': ADD_ALL,
  'change-leader': LEAD_ALL,
  'create-table': ['register-table', 'create-replicas', 'start-streams', 'create-parents', 'open-table'],
  decommission: ['mark-decommissioning', 'move-replicas', 'leave-no-trace'],
  'drain-node': ['mark-draining', 'move-leaders'],
  'drop-table': ['close-table', 'drop-everywhere', 'disconnect-nodes'],
  'join-node': ['prepare-database', 'link-servers', 'create-tables', 'open-node'],
  'move-replica': [...ADD_ALL, ...LEAD_ALL, ...REMOVE_ALL],
  rebalance: ['move-replicas'],
  'remove-replica': REMOVE_ALL,
  'resync-replica': ['empty-stale-replica', ...ADD_ALL],
};
