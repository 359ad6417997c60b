import { expect, test } from 'vitest';
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
