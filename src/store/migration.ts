import { tideError } from '../core/errors.ts';
import { CLUSTER_KEY, type Entry, type MetaStore, MIGRATION_KEY, type Write } from './meta-store.ts';

/** etcd takes 1.5 MiB in one request (`--max-request-bytes`). */
const BATCH_BYTES = 1 << 20;
const BATCH_WRITES = 1_000;

interface Migration {
  clusterId: string;
  /** The value of CLUSTER_KEY. */
  cluster: unknown;
}

/** Throws META_NOT_EMPTY where the store holds anything but an unfinished copy of the same cluster. */
export async function requireVacant(store: MetaStore, url: string, clusterId: string): Promise<void> {
  const begun = await unfinished(store);
  const cluster = (await store.get(CLUSTER_KEY))?.value as { clusterId: string } | undefined;
  if (cluster) throw tideError('META_NOT_EMPTY', { url, found: `cluster ${cluster.clusterId}` });
  if (begun && begun.clusterId !== clusterId)
    throw tideError('META_NOT_EMPTY', { url, found: `an unfinished copy of cluster ${begun.clusterId}` });
  if (begun === null && (await store.range('/')).length > 0)
    throw tideError('META_NOT_EMPTY', { url, found: 'other keys' });
}

/**
 * Copies a whole meta store, in place of an earlier unfinished copy. Without its CLUSTER_KEY, which the mark
 * keeps, it is nobody's: whoever looks finds no cluster. Throws META_NOT_EMPTY where somebody has founded one
 * meanwhile.
 */
export async function copyUnsealed(
  store: MetaStore,
  { url, clusterId }: { url: string; clusterId: string },
  entries: readonly Omit<Entry, 'revision'>[],
): Promise<void> {
  const cluster = entries.find((e) => e.key === CLUSTER_KEY)?.value;
  const mark: Migration = { clusterId, cluster };
  const when = [{ key: CLUSTER_KEY, revision: 0 }];
  const { ok } = await store.txn({ when, write: [{ put: MIGRATION_KEY, value: mark }] });
  if (!ok) throw tideError('META_NOT_EMPTY', { url, found: 'a cluster' });
  const stale = (await store.range('/')).filter((e) => e.key !== MIGRATION_KEY);
  await inBatches(
    store,
    stale.map(({ key }) => ({ delete: key })),
  );
  const rest = entries.filter((e) => e.key !== CLUSTER_KEY);
  await inBatches(
    store,
    rest.map(({ key, value }) => ({ put: key, value })),
  );
}

/**
 * Makes the copy a cluster: to be called by who was elected, which needs that the embedded store has been
 * given up. Idempotent.
 */
export async function seal(store: MetaStore): Promise<void> {
  const found = await store.get(MIGRATION_KEY);
  if (found === null) return;
  const { cluster } = found.value as Migration;
  await store.txn({
    when: [{ key: MIGRATION_KEY, revision: found.revision }],
    write: [{ put: CLUSTER_KEY, value: cluster }, { delete: MIGRATION_KEY }],
  });
}

/** The mark of a copy that is not sealed; null: there is none. */
export async function unfinished(store: MetaStore): Promise<Migration | null> {
  return ((await store.get(MIGRATION_KEY))?.value as Migration | undefined) ?? null;
}

async function inBatches(store: MetaStore, writes: readonly Write[]): Promise<void> {
  let batch: Write[] = [];
  let bytes = 0;
  for (const write of writes) {
    const size = JSON.stringify(write).length;
    if (batch.length > 0 && (bytes + size > BATCH_BYTES || batch.length >= BATCH_WRITES)) {
      await store.txn({ when: [], write: batch });
      batch = [];
      bytes = 0;
    }
    batch.push(write);
    bytes += size;
  }
  if (batch.length > 0) await store.txn({ when: [], write: batch });
}
