import { expect, test, vi } from 'vitest';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';
import { MetaMover } from '../../../src/node/meta-mover.ts';
import type { NodeIdentity } from '../../../src/node/store-dir.ts';

const { asked } = vi.hoisted(() => ({
  asked: { answer: async (_route: string, _body: object): Promise<unknown> => undefined },
}));
vi.mock('../../../src/api/http-client.ts', () => ({
  ask: (_address: string, route: string, body: object) => asked.answer(route, body),
}));

interface Node {
  mover: MetaMover;
  /** What node.json says. */
  disk: () => NodeIdentity;
  manages: () => boolean;
}

/** `effect`: told before and after everything that lasts. */
function node(nodeId: number, isHome: boolean, effect: () => void): Node {
  const successor = () => 'h2:1';
  const handle = { successor, stopAndExport: async () => [{ key: '/a', value: 1 }] } as unknown as ManagerHandle;
  let manager = isHome ? handle : null;
  let disk = { nodeId, clusterId: 'c', meta: null, metaFrom: null, metaHome: isHome } as unknown as NodeIdentity;
  const mover = new MetaMover({
    identity: () => disk,
    remember: async (change) => {
      effect();
      disk = { ...disk, ...change };
      effect();
    },
    manager: () => manager,
    giveAwayManager: () => {
      manager = null;
    },
    startManager: async () => {
      effect();
      if (disk.metaHome) manager = handle;
    },
    openShared: () => {
      throw new Error('not asked for');
    },
    share: async () => {},
    importMeta: async () => ({ put: async () => effect(), finish: async () => effect() }),
    directory: '/nowhere',
    log: () => {},
  });
  return { mover, disk: () => disk, manages: () => manager !== null };
}

/** Node 1 hands over to node 2; the process of one of them ends at its effect of number `at`. */
async function handOver(dies: 1 | 2, at: number) {
  const effects = { 1: 0, 2: 0 };
  const problems: string[] = [];
  const isDead = (id: 1 | 2) => id === dies && effects[id] >= at;
  const effectOf = (id: 1 | 2) => () => {
    effects[id] += 1;
    if (home.disk().metaHome && next.disk().metaHome) problems.push('both take themselves for the home');
    if (isDead(id)) throw new Error('killed');
  };
  const home: Node = node(1, true, effectOf(1));
  const next: Node = node(2, false, effectOf(2));
  asked.answer = async (route, body) => {
    if (isDead(1) || isDead(2)) throw new Error('unreachable');
    return route === 'meta/part' ? next.mover.receive(body as never) : next.mover.activate(1);
  };
  await home.mover.handOver(2).catch(() => {});
  if (home.manages() && next.manages()) problems.push('two manage');
  // Both start again. The old home gives its word again with its beats, where it is the home no more.
  const isOver = at > effects[dies];
  effects[dies] = Number.NEGATIVE_INFINITY;
  if (!home.disk().metaHome) await next.mover.activate(1);
  return { isOver, problems, homes: [home, next].filter((n) => n.disk().metaHome).map((n) => n.disk().nodeId) };
}

test.each([1, 2] as const)(
  'while the store is handed over and node %i dies, at every effect, one node is its home',
  async (dies) => {
    const found: number[] = [];
    for (let at = 1; ; at++) {
      const { isOver, problems, homes } = await handOver(dies, at);
      expect({ at, problems, homes: homes.length }).toEqual({ at, problems: [], homes: 1 });
      found.push(...homes);
      if (isOver) break;
    }
    expect(new Set(found)).toEqual(new Set([1, 2]));
  },
);
