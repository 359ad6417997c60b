import { readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { whoIs } from './api/http-client.ts';
import type { StartOptions } from './api/start-options.ts';
import { systemClock } from './core/clock.ts';
import { messageOf, TideError, tideError } from './core/errors.ts';
import { CatalogStore } from './manager/catalog-store.ts';
import { Manager } from './manager/manager.ts';
import type { ManagerPorts } from './manager/manager-ports.ts';
import { runNode } from './node/daemon.ts';
import type { ImportMeta, SharedPorts, StartManager } from './node/manager-handle.ts';
import { CrashPointStore } from './operations/crash-points.ts';
import { OPERATION_KINDS } from './operations/registry.ts';
import { postgresDataPlane } from './postgres/data-plane.ts';
import { PostgresInspector } from './postgres/inspector.ts';
import { NodeConnections } from './postgres/sql/client.ts';
import { EtcdStore } from './store/etcd-store.ts';
import { bringUpToDate, requireReadable } from './store/format.ts';
import { LmdbStore } from './store/lmdb-store.ts';
import type { MetaStore } from './store/meta-store.ts';
import { seal } from './store/migration.ts';
import { leasedNodes, leaseOf } from './store/node-leases.ts';

/** The only place that builds real adapters: all of a node, for the commands that run one. */

const WHO_MS = 1_000;

const startManager: StartManager = async ({
  meta,
  home,
  clusterId,
  startMode,
  minNodes,
  start,
  overtaken,
  broken,
  log,
}) => {
  const opened = 'directory' in meta ? await openLmdb(meta.directory) : meta.store;
  const points = process.env.PGTIDE_CRASH_POINTS;
  const store = points === undefined ? opened : new CrashPointStore(opened, OPERATION_KINDS, points);
  if (!('directory' in meta)) await seal(store);
  const { from, to } = await bringUpToDate(store, 'directory' in meta ? meta.directory : meta.url);
  if (from !== null && from < to) log('info', 'the meta store was brought to a newer format', { from, to });
  if ('directory' in meta)
    await CatalogStore.initialise(store, { clusterId, startMode, ...(minNodes === undefined ? {} : { minNodes }) });
  const shared: ManagerPorts['shared'] =
    'directory' in meta ? null : { ...meta, leaseOf: (node) => leaseOf(store, node), leased: () => leasedNodes(store) };
  return Manager.start(home, {
    store,
    shared,
    start,
    overtaken,
    broken,
    whoIs: (address) => whoIs(address, { timeoutMs: WHO_MS }).catch(() => null),
    clock: systemClock,
    random: Math.random,
    log,
    servers: ({ addressOf, reachable }) => {
      const connections = new NodeConnections(addressOf, reachable, shared?.term ?? null);
      return {
        plane: postgresDataPlane(connections, addressOf),
        inspector: new PostgresInspector(connections, addressOf),
        close: () => connections.close(),
        cut: () => connections.cut(),
      };
    },
  });
};

async function openLmdb(directory: string): Promise<MetaStore> {
  return LmdbStore.open(directory).catch((error) => {
    if (error instanceof TideError) throw error;
    throw tideError('META_DAMAGED', { file: directory, why: messageOf(error) }, error);
  });
}

const shared: SharedPorts = {
  open: (url) => EtcdStore.at(url),
  look: (store) => CatalogStore.look(store),
  found: async (store, facts) => {
    // A store that is new has the newest format; one with a cluster in it may have to wait for that.
    await bringUpToDate(store, 'etcd');
    await CatalogStore.initialise(store, facts);
  },
};

const importMeta: ImportMeta = async (directory) => {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: 0o700 });
  const store = await LmdbStore.open(directory);
  return {
    put: async (entries) => {
      requireReadable(entries, directory);
      await store.txn({ when: [], write: entries.map(({ key, value }) => ({ put: key, value })) });
    },
    finish: () => store.close(),
  };
};

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** Runs a node until it ends (with `background`: until it is ready); resolves with the exit status. */
export function startNode(options: StartOptions): Promise<number> {
  return runNode(options, {
    startManager,
    importMeta,
    shared,
    version,
    stdout: (text) => process.stdout.write(text),
    stderr: (text) => process.stderr.write(text),
  });
}
