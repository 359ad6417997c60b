import { beforeEach, expect, test } from 'vitest';
import { RoleKeeper } from '../../../src/manager/role-keeper.ts';
import { ROLES_FORMAT } from '../../../src/store/meta-store.ts';
import { World } from '../../fakes/world.ts';

const NODES = [1, 2, 3];

let world: World;
/** What was done, and told, in its order. */
let done: string[];
let formats: Map<number, number>;
let away: Set<number>;
/** What is left on a node, as `weakenClients` answers. */
let left: Map<number, string>;

beforeEach(async () => {
  world = await World.settled(NODES);
  done = [];
  formats = new Map(NODES.map((n) => [n, ROLES_FORMAT]));
  away = new Set();
  left = new Map(NODES.map((n) => [n, 'done']));
});

const keeper = () =>
  new RoleKeeper({
    plane: {
      nodes: {
        useOwnRoles: async (node) => void done.push(`own roles on ${node}`),
        weakenClients: async (node) => {
          const outcome = left.get(node) ?? 'done';
          done.push(`weaken ${node}: ${outcome}`);
          if (outcome === 'done') left.set(node, 'already');
          return outcome;
        },
      },
    },
    view: () => world.view,
    alive: (node) => !away.has(node),
    metaFormat: (node) => formats.get(node) ?? 0,
    separate: async () => {
      done.push('separate');
      await world.catalog.separateRoles();
    },
    log: (_level, message, { why }: { why?: string }) => void done.push(`${message}: ${why}`),
    event: async ({ kind, node }) => void done.push(node === undefined ? kind : `${kind} ${node}`),
  });

async function rounds(at: RoleKeeper, count = 1): Promise<string[]> {
  done = [];
  for (let n = 0; n < count; n++) {
    await at.round();
    await at.idle();
  }
  return done;
}

test('while a node runs an older program or is away nothing is taken from anybody, and the log says once why', async () => {
  const at = keeper();
  formats.set(2, ROLES_FORMAT - 1);
  away.add(3);
  expect(await rounds(at, 3)).toEqual(['clients are superusers still: nodes 2, 3 are away or run an older program']);
  formats.set(2, ROLES_FORMAT);
  expect(await rounds(at)).toEqual(['clients are superusers still: nodes 3 are away or run an older program']);
  expect(world.view.ownRoles).toBeUndefined();
});

test('all nodes use their own roles before old programs are kept out, and that before any client loses a right', async () => {
  expect(await rounds(keeper(), 3)).toEqual([
    'own roles on 1',
    'own roles on 2',
    'own roles on 3',
    'separate',
    'roles-separated',
    'weaken 1: done',
    'weaken 2: done',
    'weaken 3: done',
    'clients-weakened 1',
    'clients-weakened 2',
    'clients-weakened 3',
    'weaken 1: already',
    'weaken 2: already',
    'weaken 3: already',
  ]);
});

test('a node is looked at once more: what its server starts on what it read before is ended, and nothing told twice', async () => {
  const at = keeper();
  await rounds(at);
  left = new Map([
    [1, 'already'],
    [2, 'done'],
    [3, '1 sessions are being ended'],
  ]);
  expect(await rounds(at)).toEqual([
    'weaken 1: already',
    'weaken 2: done',
    'weaken 3: 1 sessions are being ended',
    'clients are superusers still: 1 sessions are being ended',
  ]);
  left.set(3, 'already');
  expect(await rounds(at, 2)).toEqual(['weaken 2: already', 'weaken 3: already']);
});

test('what is in use is tried again, and a node that was away is changed when it is back', async () => {
  await rounds(keeper());
  const at = keeper();
  left = new Map([
    [1, 'already'],
    [2, '3 objects are in use'],
    [3, 'done'],
  ]);
  away.add(3);
  expect(await rounds(at, 2)).toEqual([
    'weaken 1: already',
    'weaken 2: 3 objects are in use',
    'clients are superusers still: 3 objects are in use',
    'weaken 2: 3 objects are in use',
  ]);
  away.clear();
  left.set(2, 'already');
  expect(await rounds(at, 2)).toEqual([
    'weaken 2: already',
    'weaken 3: done',
    'clients-weakened 2',
    'clients-weakened 3',
    'weaken 3: already',
  ]);
});
