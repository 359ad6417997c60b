import { describe, expect, test } from 'vitest';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';
import { MetaMover } from '../../../src/node/meta-mover.ts';
import type { NodeIdentity } from '../../../src/node/store-dir.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import type { Entry, SharedStore } from '../../../src/store/meta-store.ts';
import { seal } from '../../../src/store/migration.ts';

const URL = 'etcd://e/x';
const CLUSTER = { clusterId: 'c1', startMode: 'start' };
const ENTRIES = [
  { key: '/catalog/cluster', value: CLUSTER },
  ...Array.from({ length: 2_500 }, (_, i) => ({ key: `/op/${String(i).padStart(6, '0')}`, value: { id: i } })),
];

class Crash extends Error {}

/** A home node whose process ends at its `crashAt`th effect, and what is on its disk and in etcd then. */
class World {
  readonly etcd = new MemoryStore();
  effects = 0;
  /** What node.json says. */
  disk = identity();
  #memory = identity();
  manager: ManagerHandle | null;
  embeddedStarts = 0;
  shares = 0;
  readonly mover: MetaMover;

  readonly #crashAt: number;
  readonly #failAt: number;

  constructor(crashAt = Number.POSITIVE_INFINITY, failAt = Number.POSITIVE_INFINITY) {
    this.#crashAt = crashAt;
    this.#failAt = failAt;
    this.manager = {
      liveMembers: () => [],
      stopAndExport: async () => ENTRIES,
    } as unknown as ManagerHandle;
    this.mover = new MetaMover({
      identity: () => this.#memory,
      remember: async (change, again) => {
        const after = { ...this.#memory, ...change };
        if (!again && JSON.stringify(after) === JSON.stringify(this.#memory)) return;
        this.effect();
        this.disk = after;
        // The rename is done, and what follows fails: the process does not know.
        this.effect();
        this.#memory = after;
      },
      manager: () => this.manager,
      giveAwayManager: () => {
        this.manager = null;
      },
      startManager: async () => {
        this.effect();
        if (this.#memory.metaHome) this.embeddedStarts += 1;
      },
      openShared: () => this.#store(),
      share: async () => {
        this.effect();
        this.shares += 1;
      },
      importMeta: async () => ({ put: async () => {}, finish: async () => {} }),
      directory: '/nowhere',
      log: () => {},
    });
  }

  effect(): void {
    this.effects += 1;
    if (this.effects >= this.#crashAt) throw new Crash('killed');
    if (this.effects === this.#failAt) throw new Error('no space left on device');
  }

  #store(): SharedStore {
    const { etcd } = this;
    return Object.assign(Object.create(etcd), {
      get: (key: string) => etcd.get(key),
      range: (prefix: string) => etcd.range(prefix),
      txn: async (request: Parameters<SharedStore['txn']>[0]) => {
        this.effect();
        const result = await etcd.txn(request);
        this.effect();
        return result;
      },
    });
  }
}

function identity(): NodeIdentity {
  return {
    formatVersion: 1,
    nodeId: 1,
    clusterId: 'c1',
    startMode: 'start',
    state: 'member',
    listenAddress: 'h:1',
    advertiseAddress: 'h:1',
    httpAddress: 'h:2',
    postgresPort: 3,
    metaHome: true,
    meta: null,
    manager: 'h:1',
    metaFrom: null,
    peers: [],
  };
}

const plain = (entries: Entry[]) => entries.map(({ key, value }) => ({ key, value }));

/** What the node does when it starts again: the one authority, and what it finds there. */
async function authorityAfter(world: World): Promise<'embedded' | 'etcd'> {
  if (world.disk.metaHome && world.disk.meta === null) {
    // Whoever looks into etcd finds no cluster there.
    expect(await world.etcd.get('/catalog/cluster')).toBeNull();
    return 'embedded';
  }
  expect(world.disk).toMatchObject({ metaHome: false, meta: URL });
  await seal(world.etcd);
  expect(plain(await world.etcd.range('/'))).toEqual([...ENTRIES].sort((a, b) => (a.key < b.key ? -1 : 1)));
  return 'etcd';
}

describe('meta migrate', () => {
  test('takes everything along, and what it leaves is a cluster when the first manager has sealed it', async () => {
    const world = new World();
    await world.mover.migrate(URL);
    expect(world.shares).toBe(1);
    expect(world.embeddedStarts).toBe(0);
    expect(await authorityAfter(world)).toBe('etcd');
    await seal(world.etcd);
    expect((await world.etcd.range('/')).length).toBe(ENTRIES.length);
  });

  test('killed at every effect it leaves one authority, with everything', async () => {
    const whole = new World();
    await whole.mover.migrate(URL);
    const found: string[] = [];
    for (let at = 1; at <= whole.effects; at++) {
      const world = new World(at);
      await expect(world.mover.migrate(URL)).rejects.toThrow();
      found.push(await authorityAfter(world));
    }
    expect(new Set(found)).toEqual(new Set(['embedded', 'etcd']));
    // Once in etcd, never back.
    expect(found).toEqual([...found].sort((a, b) => (a === b ? 0 : a === 'embedded' ? -1 : 1)));
  });

  test('failed at every effect the embedded manager goes on, or etcd has it; asked again, it comes through', async () => {
    const whole = new World();
    await whole.mover.migrate(URL);
    for (let at = 1; at < whole.effects; at++) {
      const world = new World(Number.POSITIVE_INFINITY, at);
      await expect(world.mover.migrate(URL)).rejects.toThrow('no space');
      expect(await authorityAfter(world)).toBe('embedded');
      expect(world.embeddedStarts).toBe(1);
      expect(world.mover.movingTo).toBeNull();
      world.manager = { liveMembers: () => [], stopAndExport: async () => ENTRIES } as unknown as ManagerHandle;
      await world.mover.migrate(URL);
      expect(await authorityAfter(world)).toBe('etcd');
    }
  });

  test('refuses a place that is not empty, another cluster, and a second time', async () => {
    const foreign = new World();
    await foreign.etcd.txn({ when: [], write: [{ put: '/catalog/cluster', value: { clusterId: 'c2' } }] });
    await expect(foreign.mover.migrate(URL)).rejects.toMatchObject({ code: 'META_NOT_EMPTY' });
    const other = new World();
    await other.etcd.txn({ when: [], write: [{ put: '/something', value: 1 }] });
    await expect(other.mover.migrate(URL)).rejects.toMatchObject({ code: 'META_NOT_EMPTY' });
    expect(other.manager).not.toBeNull();
    const twice = new World();
    await twice.mover.migrate(URL);
    await expect(twice.mover.migrate(URL)).rejects.toMatchObject({ code: 'META_SHARED' });
    await expect(twice.mover.handOver(2)).rejects.toMatchObject({ code: 'META_SHARED' });
  });
});
