import { expect, test } from 'vitest';
import { beatReport } from '../../../src/api/membership.ts';
import type { SharedAuthority } from '../../../src/manager/ports.ts';
import { beatOf, factsOf, startedManager } from './support/started.ts';

test('a beat from another cluster changes nothing', async () => {
  const { manager, store } = await startedManager();
  try {
    expect(await manager.join(factsOf(1))).toMatchObject({ nodeId: 1, clusterId: 'test' });
    const record = async () => (await store.get('/catalog/node/1'))?.value;
    const foreign = { clusterId: 'other', facts: factsOf(9) };
    await expect(manager.beat(beatOf(1, foreign))).rejects.toMatchObject({
      code: 'CLUSTER_MISMATCH',
      details: { caller: 'other', cluster: 'test' },
    });
    expect(manager.liveMembers()).toEqual([]);
    expect(await record()).toMatchObject({ address: 'h1:26257' });
    await manager.beat(beatOf(1, { facts: factsOf(9) }));
    expect(await record()).toMatchObject({ address: 'h9:26257' });
    expect(manager.liveMembers()).toEqual(['h9:26257']);
  } finally {
    await manager.stop();
  }
});

test('only the start that was admitted beats for its node; a program that does not say is taken as before', async () => {
  const { manager } = await startedManager();
  try {
    await manager.join(factsOf(1));
    const request = { node: 1, clusterId: 'test', address: 'h1:26257', start: { id: 's1', after: ['s0'], ended: [] } };
    await expect(manager.beat(beatOf(1, { start: 's1' }))).rejects.toMatchObject({ code: 'NODE_NOT_ADMITTED' });
    await manager.admit(request);
    expect(await manager.beat(beatOf(1, { start: 's1' }))).toMatchObject({ managedBy: { node: 1, start: 's1' } });
    await expect(manager.beat(beatOf(1, { start: 'copy' }))).rejects.toMatchObject({ code: 'NODE_NOT_ADMITTED' });
    await expect(manager.admit({ ...request, start: { id: 'copy', after: ['s0'], ended: [] } })).rejects.toThrow();
    expect(await manager.beat(beatOf(1, { start: 's1' }))).toMatchObject({ twin: { id: 'copy' } });
    expect(await manager.beat(beatOf(1))).toMatchObject({ twin: { id: 'copy' } });
    const foreign = { ...request, clusterId: 'other' };
    await expect(manager.admit(foreign)).rejects.toMatchObject({ code: 'CLUSTER_MISMATCH' });
  } finally {
    await manager.stop();
  }
});

test('a manager that its nodes have left behind, on a later copy of its store, hears it from them and gives up', async () => {
  const { manager, overtaken } = await startedManager();
  try {
    await manager.join(factsOf(1));
    await manager.join(factsOf(2));
    await manager.beat(beatOf(2, { managedBy: { node: 1, start: 's0' } }));
    await manager.beat(beatOf(2, { managedBy: { node: 3, start: 'x' } }));
    expect(overtaken).toEqual([]);
    const beat = manager.beat(beatOf(2, { managedBy: { node: 1, start: 'later' } }));
    await expect(beat).rejects.toMatchObject({ code: 'NODE_OVERTAKEN' });
    expect(overtaken).toHaveLength(1);
  } finally {
    await manager.stop();
  }
});

test('a node that has left hears so, whichever start of it asks', async () => {
  const { manager, store } = await startedManager();
  try {
    await manager.join(factsOf(1));
    await manager.join(factsOf(2));
    const admit = (id: string, after: string[]) =>
      manager.admit({ node: 2, clusterId: 'test', address: 'h2:26257', start: { id, after, ended: [] } });
    await admit('s1', []);
    await manager.beat(beatOf(2, { start: 's1' }));
    await expect.poll(async () => (await store.get('/catalog/node/2'))?.value).toMatchObject({ start: 's1' });
    const operations = (await manager.run({ do: 'op-ls', all: true })) as { id: number; subject: string }[];
    const joining = operations.find((row) => row.subject.includes('2'));
    await manager.run({ do: 'op-cancel', id: joining?.id ?? 0 });
    await expect
      .poll(async () => (await store.get('/catalog/node/2'))?.value, { timeout: 10_000 })
      .toMatchObject({ state: 'decommissioned' });
    await admit('s2', ['s1']);
    expect(await manager.beat(beatOf(2, { start: 's2' }))).toMatchObject({ state: 'decommissioned' });
  } finally {
    await manager.stop();
  }
});

test('nobody is let in without a lease of its own, nor by a manager whose seat may be another’s', async () => {
  let leftMs = 1_000;
  const shared: SharedAuthority = {
    url: 'etcd://e/x',
    term: 1,
    leftMs: () => leftMs,
    leaseOf: async () => 'held',
    leased: async () => [1],
  };
  const { manager } = await startedManager(shared);
  try {
    await manager.join(factsOf(1));
    const fence = async (leased: boolean) => (await manager.beat(beatOf(1, { leased }))).fence;
    expect([await fence(true), await fence(false)]).toEqual(['down', 'keep']);
    leftMs = 0;
    expect(await fence(true)).toBe('keep');
  } finally {
    await manager.stop();
  }
});

test('a beat counts whatever its PostgreSQL has written to its log', () => {
  const error = {
    stream: 'tide_1_2',
    table: 't4_p0',
    copying: false,
    place: '7',
    message: 'x',
    tries: 4,
    forMs: 1,
    agoMs: 0,
  };
  const read = (table: string) => beatReport.parse(beatOf(1, { applyErrors: [{ ...error, table }] }));
  expect(read('t4_p0').applyErrors).toHaveLength(1);
  expect(read('t'.repeat(201))).toMatchObject({ node: 1, applyErrors: [] });
});
