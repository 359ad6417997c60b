import type { BeatReport } from '../../../../src/api/membership.ts';
import { systemClock } from '../../../../src/core/clock.ts';
import { CatalogStore } from '../../../../src/manager/catalog-store.ts';
import { Manager } from '../../../../src/manager/manager.ts';
import type { ManagerPorts } from '../../../../src/manager/manager-ports.ts';
import type { SharedAuthority } from '../../../../src/manager/ports.ts';
import { MemoryStore } from '../../../../src/store/memory-store.ts';
import { META_FORMAT } from '../../../../src/store/meta-store.ts';

/**
 * A whole manager of cluster `test` in node 1, in its start `s1` after `s0`, beside servers that do nothing.
 */
export async function startedManager(shared: SharedAuthority | null = null): Promise<{
  manager: Manager;
  store: MemoryStore;
  overtaken: Error[];
  broken: unknown[];
}> {
  const store = new MemoryStore();
  const overtaken: Error[] = [];
  const broken: unknown[] = [];
  await CatalogStore.initialise(store, { clusterId: 'test', startMode: 'start' });
  const nothing = new Proxy({}, { get: () => async () => [] });
  const servers = { plane: nothing, inspector: nothing, close: async () => {}, cut: () => {} };
  const manager = await Manager.start(1, {
    store,
    shared,
    start: { id: 's1', after: ['s0'], ended: ['s0'] },
    whoIs: async () => null,
    overtaken: (error) => void overtaken.push(error),
    broken: (error) => void broken.push(error),
    clock: systemClock,
    random: Math.random,
    log: () => {},
    servers: () => servers as unknown as ReturnType<ManagerPorts['servers']>,
  });
  return { manager, store, overtaken, broken };
}

/** What a node says when it joins; its address is `h<n>:26257`. */
export function factsOf(n: number): BeatReport['facts'] {
  return {
    api: 2,
    address: `h${n}:26257`,
    httpAddress: `h${n}:8080`,
    postgresHost: `h${n}`,
    postgresPort: 27257,
    locality: [],
    attrs: [],
    build: '0.1.0',
    startedAt: '2026-01-01T00:00:00.000Z',
    startMode: 'start',
    storeFormat: 2,
  };
}

export function beatOf(n: number, changed: Partial<BeatReport> = {}): BeatReport {
  return {
    node: n,
    clusterId: 'test',
    postgresUp: true,
    fenced: false,
    leased: false,
    metaFormat: META_FORMAT,
    diskTotalBytes: 100,
    diskFreeBytes: 50,
    facts: factsOf(n),
    sessions: null,
    answeredMs: null,
    applyErrors: [],
    start: null,
    managedBy: null,
    ...changed,
  };
}
