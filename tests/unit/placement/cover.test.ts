import { describe, expect, test } from 'vitest';
import type { ClusterView, Drained, LoadView, TableRecord } from '../../../src/catalog/model.ts';
import { durabilityOf, wantedQuorum } from '../../../src/catalog/quorum.ts';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { plan } from '../../../src/placement/plan.ts';
import { nodeRecord, tableRecord } from '../../fakes/records.ts';

/** Nodes 1 to `count`, of which node 1 is draining. */
function cluster(count: number, table: TableRecord, drained?: Drained, draining = true, dead: number[] = []) {
  const ids = Array.from({ length: count }, (_, i) => i + 1);
  const first = { ...nodeRecord(1), draining, ...(drained ? { drained } : {}) };
  const view: ClusterView = {
    revision: 0,
    clusterId: 'c',
    startMode: 'start',
    nodes: new Map(ids.map((id) => [id, id === 1 ? first : nodeRecord(id)])),
    tables: new Map([[table.tid, { ...table, state: 'ready' as const }]]),
    settings: defaultSettings(),
  };
  const load: LoadView = {
    nodes: new Map(
      ids.map((node) => [node, { node, alive: !dead.includes(node), diskTotalBytes: 0, diskFreeBytes: 0 }]),
    ),
    partitionBytes: new Map(),
  };
  return { view, load, alive: (n: number) => !dead.includes(n) };
}

const movesOf = (world: ReturnType<typeof cluster>, goal: Parameters<typeof plan>[2]) => {
  const { moves, blocked } = plan(world.view, world.load, goal);
  const told = moves.map((m) => `${m.kind} ${m.pid}: ${'from' in m ? m.from : ''}→${'to' in m ? m.to : ''}`);
  return { told, blocked: blocked.map((b) => b.pid) };
};
const cover = { kind: 'cover', node: 1 } as const;
const giveBack = { kind: 'give-back', node: 1 } as const;

describe('before a planned stop', () => {
  test.each([
    ['a single replica gets a copy that leads', 1, [[1]], 3, ['add-replica 0: →2', 'change-leader 0: 1→2']],
    ['a follower is replaced for the time', 2, [[2, 1]], 3, ['add-replica 0: →3']],
    ['three replicas need no copy', 3, [[1, 2, 3]], 4, ['change-leader 0: 1→2']],
    ['what the node does not hold is left alone', 2, [[2, 3]], 3, []],
  ])('%s', (_name, replicas, placement, count, moves) => {
    expect(movesOf(cluster(count, tableRecord(1, 'acct', replicas, placement)), cover)).toEqual({
      told: moves,
      blocked: [],
    });
  });

  test('where no node can take a copy, it says so; a dead follower is none', () => {
    expect(movesOf(cluster(2, tableRecord(1, 'acct', 2, [[2, 1]])), cover).blocked).toEqual([0]);
    const dead = cluster(3, tableRecord(1, 'acct', 3, [[1, 2, 3]]), undefined, true, [3]);
    expect(movesOf(dead, cover).blocked).toEqual([0]);
  });

  test('one that was accepted makes no copies, and nobody waits for it while it is away', () => {
    const alone = { alone: true, leaders: [], copies: [] };
    const world = cluster(2, tableRecord(1, 'acct', 2, [[2, 1]]), alone, true, [1]);
    expect(movesOf(world, cover)).toEqual({ told: [], blocked: [] });
    const quorum = wantedQuorum(world.view, 2, world.alive);
    expect(quorum.count).toBe(0);
    const partition = world.view.tables.get(1)?.partitions[0];
    expect(partition && durabilityOf(world.view, partition, quorum, world.alive)).toBe('leader');
    const strict = cluster(2, tableRecord(1, 'acct', 2, [[2, 1]]), { ...alone, alone: false }, true, [1]);
    expect(wantedQuorum(strict.view, 2, strict.alive)).toEqual({ count: 1, nodes: [1] });
  });
});

describe('after it', () => {
  const drained = { alone: false, leaders: ['1/0'], copies: [{ tid: 1, pid: 0, node: 3 }] };

  test('the node leads again what it led, and the copy goes', () => {
    const world = cluster(3, tableRecord(1, 'acct', 2, [[3, 1, 2]]), drained, false);
    expect(movesOf(world, giveBack)).toEqual({ told: ['change-leader 0: 3→1', 'remove-replica 0: 3→'], blocked: [] });
  });

  test('a copy stays while another replica is away, and for good where one is gone', () => {
    const away = cluster(3, tableRecord(1, 'acct', 2, [[3, 1, 2]]), drained, false, [2]);
    expect(movesOf(away, giveBack)).toEqual({ told: ['change-leader 0: 3→1'], blocked: [0] });
    const gone = cluster(3, tableRecord(1, 'acct', 2, [[3, 1]]), drained, false);
    expect(movesOf(gone, giveBack)).toEqual({ told: ['change-leader 0: 3→1'], blocked: [] });
  });

  test('nobody waits for a node that has died', () => {
    const world = cluster(3, tableRecord(1, 'acct', 2, [[3, 1, 2]]), drained, false, [1]);
    expect(movesOf(world, giveBack)).toEqual({ told: [], blocked: [] });
  });
});
