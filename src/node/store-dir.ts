import { chmod, lstat, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import * as z from 'zod';
import type { StartMode } from '../catalog/model.ts';
import { messageOf, tideError } from '../core/errors.ts';
import { CONFIG_FILE } from '../postgres/config.ts';
import { storeError } from '../postgres/failures.ts';
import { writeDurably } from './durable-file.ts';
import { lockStore, type StoreLock } from './store-lock.ts';
import { isStoreName } from './store-names.ts';

/** Format of the store that this pgtide writes; it refuses to start a newer one. */
export const STORE_FORMAT = 2;
/**
 * What a store begins with. Once the cluster's clients are no superusers the manager has it raised: programs
 * before that would need them to be.
 */
export const FIRST_FORMAT = 1;

const identitySchema = z.strictObject({
  formatVersion: z.int().min(FIRST_FORMAT).max(STORE_FORMAT),
  nodeId: z.int().positive(),
  clusterId: z.string().min(1),
  startMode: z.enum(['start', 'start-single-replica']),
  /** `decommissioned`: the node has left for good and must not start again. */
  state: z.enum(['member', 'decommissioned']),
  /** HOST:PORT, as flags gave them at the last start. */
  listenAddress: z.string(),
  advertiseAddress: z.string(),
  httpAddress: z.string(),
  postgresPort: z.int().positive(),
  /** `etcd://…` where the meta store is shared; null: it is embedded, in one of the nodes. */
  meta: z.string().nullable().default(null),
  /** The node keeps the embedded meta store in `meta/` and runs the manager. */
  metaHome: z.boolean(),
  /** HOST:PORT of the manager, as last heard. */
  manager: z.string(),
  /** The node whose meta store lies in `meta/`, waiting for that node's word to go on; null: none. */
  metaFrom: z.int().positive().nullable(),
  /** HOST:PORT of the members, as last heard: one of them knows the manager when it has moved. */
  peers: z.array(z.string()),
});

/** Which node this is: what `node.json` keeps. Written only when the cluster has given the node its id. */
export type NodeIdentity = z.infer<typeof identitySchema>;

/**
 * The directory that `--store` names: `{node.json, node.lock, node.lock.starts, lease, pgdata/, run/, meta/,
 * logs/}`.
 */
export interface StoreDir {
  readonly root: string;
  readonly pgdata: string;
  /** The Unix socket of PostgreSQL. */
  readonly run: string;
  readonly meta: string;
  readonly postgresLog: string;
  readonly nodeLog: string;
}

export function storePaths(dir: string): StoreDir {
  const root = resolve(dir);
  return {
    root,
    pgdata: join(root, 'pgdata'),
    run: join(root, 'run'),
    meta: join(root, 'meta'),
    postgresLog: join(root, 'logs', 'postgresql.log'),
    nodeLog: join(root, 'logs', 'node.log'),
  };
}

/**
 * Makes the store's directories where they are missing, closed to everybody else, and closes what is there.
 * Changes nothing in a directory that holds something else, or something of somebody else. Throws
 * STORE_NOT_EMPTY, STORE_OF_ANOTHER_USER, STORE_READ_ONLY, STORE_FULL, STORE_UNUSABLE.
 */
export async function prepareStore(dir: string): Promise<StoreDir> {
  const store = storePaths(dir);
  const logs = dirname(store.nodeLog);
  try {
    await makeDir(store.root);
    await requireOwnOrEmpty(store);
    const owned = await ownedFiles(store, logs);
    for (const made of [store.meta, logs]) await mkdir(made, { recursive: true, mode: 0o700 });
    for (const path of [store.root, store.meta, logs, ...owned]) await close(path);
  } catch (error) {
    throw storeError(store.root, error);
  }
  return store;
}

/**
 * What a store keeps beside PostgreSQL's own. Throws STORE_OF_ANOTHER_USER where something of it belongs to
 * somebody else.
 */
async function ownedFiles(store: StoreDir, logs: string): Promise<string[]> {
  const names = (await readdir(store.root)).filter((name) => isStoreName(name) && name !== 'lost+found');
  const inside = [store.meta, logs].map(async (at) => {
    const found = await readdir(at).catch((): string[] => []);
    return found.map((name) => join(at, name));
  });
  const paths = [...names.map((name) => join(store.root, name)), ...(await Promise.all(inside)).flat()];
  const owned: string[] = [];
  for (const path of paths) {
    // Temporary ones may go meanwhile.
    const found = await lstat(path).catch(() => null);
    if (found !== null && found.uid !== process.getuid?.())
      throw tideError('STORE_OF_ANOTHER_USER', { path, owner: found.uid, user: userInfo().username });
    if (found?.isFile()) owned.push(path);
  }
  return owned;
}

/**
 * Programs before this one left their files open to be read. The directory itself may be lent by somebody
 * else.
 */
async function close(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found !== null && found.uid === process.getuid?.() && (found.mode & 0o077) !== 0)
    await chmod(path, found.mode & 0o700).catch(() => {});
}

/**
 * `mkdir` with its parents. Node's own recursive one says ENOENT where the truth is a read-only file system.
 */
async function makeDir(dir: string): Promise<void> {
  try {
    await mkdir(dir);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT') throw error;
    await makeDir(dirname(dir));
    await makeDir(dir);
  }
}

/**
 * Holds the store for this process until released (or until it dies). Throws STORE_IN_USE, STORE_READ_ONLY,
 * STORE_FULL.
 */
export async function holdStore(store: StoreDir): Promise<StoreLock> {
  return lockStore(join(store.root, 'node.lock')).catch((error) => {
    throw storeError(store.root, error);
  });
}

async function requireOwnOrEmpty(store: StoreDir): Promise<void> {
  const names = await readdir(store.root);
  const foreign = names.filter((name) => !isStoreName(name));
  // A data directory without a node.json is ours while a first start was interrupted, and somebody else's
  // without our settings in it.
  if (names.includes('pgdata') && !names.includes('node.json')) {
    const inside = await readdir(store.pgdata).catch((): string[] => []);
    if (!inside.includes(CONFIG_FILE)) foreign.push('pgdata');
  }
  if (foreign.length === 0) return;
  const shown = foreign.sort().slice(0, 3).join(', ');
  const found = foreign.length > 3 ? `${shown} and ${foreign.length - 3} more` : shown;
  throw tideError('STORE_NOT_EMPTY', { path: store.root, found });
}

/** The identity in the store, null in a new one. Throws STORE_TOO_NEW, STORE_DAMAGED, STORE_READ_ONLY. */
export async function readIdentity(store: StoreDir): Promise<NodeIdentity | null> {
  const file = join(store.root, 'node.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw storeError(file, error);
  }
  const value = parseJson(file, text);
  const found = (value as { formatVersion?: unknown } | null)?.formatVersion;
  if (typeof found === 'number' && found > STORE_FORMAT) {
    throw tideError('STORE_TOO_NEW', { path: store.root, found, known: STORE_FORMAT });
  }
  const parsed = identitySchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const why = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
  throw tideError('STORE_DAMAGED', { file, why });
}

function parseJson(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw tideError('STORE_DAMAGED', { file, why: messageOf(error) });
  }
}

/**
 * Writes the identity so that a crash leaves the old or the new one, whole and on disk. Throws STORE_FULL,
 * STORE_READ_ONLY.
 */
export async function writeIdentity(store: StoreDir, identity: NodeIdentity): Promise<void> {
  const file = join(store.root, 'node.json');
  try {
    await writeDurably(file, `${JSON.stringify(identity, null, 2)}\n`);
  } catch (error) {
    throw storeError(file, error);
  }
}

/** Whether a node with this identity may start so. Throws STORE_DECOMMISSIONED, STORE_MODE_MISMATCH. */
export function requireStartable(store: StoreDir, identity: NodeIdentity, wantedMode: StartMode): void {
  const path = store.root;
  const { nodeId, startMode } = identity;
  if (identity.state === 'decommissioned') throw tideError('STORE_DECOMMISSIONED', { path, nodeId });
  if (startMode !== wantedMode) throw tideError('STORE_MODE_MISMATCH', { path, storeMode: startMode, wantedMode });
}

/** Whether the cluster that `--join` reached is the store's own. Throws STORE_OTHER_CLUSTER. */
export function requireSameCluster(store: StoreDir, identity: NodeIdentity, joinCluster: string): void {
  if (identity.clusterId === joinCluster) return;
  throw tideError('STORE_OTHER_CLUSTER', { path: store.root, storeCluster: identity.clusterId, joinCluster });
}
