import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';
import { MetaMover, type MetaMoverPorts } from '../../../src/node/meta-mover.ts';
import type { NodeIdentity } from '../../../src/node/store-dir.ts';

/** A node that has been given the meta store by node 3, as far as the mover sees it. */
function receiver() {
  let identity = { nodeId: 5, clusterId: 'c', meta: null, metaFrom: 3, metaHome: false } as unknown as NodeIdentity;
  let manager: ManagerHandle | null = null;
  const begun: string[] = [];
  const ports: MetaMoverPorts = {
    identity: () => identity,
    remember: async (change) => {
      await turn();
      identity = { ...identity, ...change };
    },
    manager: () => manager,
    setManager: (none) => {
      manager = none;
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
      await turn();
    },
    directory: '/nowhere',
    log: () => {},
  };
  return { mover: new MetaMover(ports), begun };
}

test('whoever says it, and how often at once: one manager takes the store up', async () => {
  const { mover, begun } = receiver();
  await Promise.all([mover.activate(3), mover.activate(3), mover.activate(3)]);
  expect(begun).toEqual(['manager']);
});

test('a store that is given again while it is taken up is refused', async () => {
  const { mover, begun } = receiver();
  const transfer = { clusterId: 'c', from: 3, entries: [] };
  const answers = await Promise.allSettled([mover.activate(3), mover.receive(transfer)]);
  expect(answers.map((a) => a.status)).toEqual(['fulfilled', 'rejected']);
  expect(begun).toEqual(['manager']);
});

test('the word of another node than the one that gave it counts for nothing', async () => {
  const { mover, begun } = receiver();
  await mover.activate(2);
  expect(begun).toEqual([]);
});
