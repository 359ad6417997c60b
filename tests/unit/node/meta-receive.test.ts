import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { MetaPart } from '../../../src/api/membership.ts';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';
import { MetaMover, type MetaMoverPorts } from '../../../src/node/meta-mover.ts';
import { partsOf } from '../../../src/node/meta-transfer.ts';
import type { NodeIdentity } from '../../../src/node/store-dir.ts';

/** A node that has been given the meta store by node 3, as far as the mover sees it. */
function receiver() {
  let identity = { nodeId: 5, clusterId: 'c', meta: null, metaFrom: 3, metaHome: false } as unknown as NodeIdentity;
  let manager: ManagerHandle | null = null;
  const begun: string[] = [];
  let stored: string[] = [];
  const ports: MetaMoverPorts = {
    identity: () => identity,
    remember: async (change) => {
      await turn();
      identity = { ...identity, ...change };
    },
    manager: () => manager,
    giveAwayManager: () => {
      manager = null;
    },
    startManager: async () => {
      begun.push('manager');
      await turn();
      manager = {} as ManagerHandle;
    },
    openShared: () => {
      throw new Error('not asked for');
    },
    share: async () => {},
    importMeta: async () => {
      begun.push('import');
      stored = [];
      await turn();
      return {
        put: async (entries) => void stored.push(...entries.map((e) => e.key)),
        finish: async () => void begun.push('closed'),
      };
    },
    directory: '/nowhere',
    log: () => {},
  };
  return { mover: new MetaMover(ports), begun, stored: () => stored, identity: () => identity };
}

test('whoever says it, and how often at once: one manager takes the store up', async () => {
  const { mover, begun } = receiver();
  await Promise.all([mover.activate(3), mover.activate(3), mover.activate(3)]);
  expect(begun).toEqual(['manager']);
});

test('a store that is given again while it is taken up is refused', async () => {
  const { mover, begun } = receiver();
  const transfer = { clusterId: 'c', from: 3, entries: [] };
  const answers = await Promise.allSettled([mover.activate(3), mover.receiveWhole(transfer)]);
  expect(answers.map((a) => a.status)).toEqual(['fulfilled', 'rejected']);
  expect(begun).toEqual(['manager']);
});

test('the word of another node than the one that gave it counts for nothing', async () => {
  const { mover, begun } = receiver();
  await mover.activate(2);
  expect(begun).toEqual([]);
});

const part = (transfer: string, number: number, isLast = false): MetaPart => ({
  clusterId: 'c',
  from: 4,
  transfer,
  number,
  isLast,
  entries: [{ key: `/${transfer}/${number}`, value: null }],
});

test('a store that comes in parts is there when the last one is, and whoever begins anew takes its place', async () => {
  const { mover, stored, identity, begun } = receiver();
  await mover.receive(part('a', 0));
  await mover.receive(part('a', 1));
  expect(identity().metaFrom).toBeNull();
  await mover.receive(part('b', 0));
  await expect(mover.receive(part('a', 2, true))).rejects.toMatchObject({ code: 'BAD_REQUEST' });
  await expect(mover.receive(part('b', 2, true))).rejects.toMatchObject({ code: 'BAD_REQUEST' });
  await mover.receive(part('b', 1, true));
  expect(stored()).toEqual(['/b/0', '/b/1']);
  expect(identity().metaFrom).toBe(4);
  await mover.activate(4);
  expect(begun).toEqual(['import', 'closed', 'import', 'closed', 'manager']);
});

test('a store of another cluster is refused', async () => {
  const { mover, stored, identity } = receiver();
  await expect(mover.receive({ ...part('a', 0), clusterId: 'd' })).rejects.toMatchObject({ code: 'CLUSTER_MISMATCH' });
  expect(stored()).toEqual([]);
  expect(identity().metaFrom).toBe(3);
});

test('parts are bounded by bytes, hold everything in its order, and are never empty but for nothing at all', () => {
  const entries = fc.array(fc.record({ key: fc.string(), value: fc.jsonValue() }));
  fc.assert(
    fc.property(entries, fc.integer({ min: 1, max: 500 }), (all, bytes) => {
      const parts = [...partsOf(all, bytes)];
      expect(parts.flat()).toEqual(all);
      for (const some of parts) {
        const size = some.reduce((sum, entry) => sum + JSON.stringify(entry).length, 0);
        if (some.length > 1) expect(size).toBeLessThanOrEqual(bytes);
        expect(some.length > 0 || all.length === 0).toBe(true);
      }
    }),
  );
});
