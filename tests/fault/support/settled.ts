import { expect } from 'vitest';
import { whatIsWrong } from '../../support/checks.ts';
import type { LocalCluster } from '../../support/cluster.ts';
import type { Load } from './load.ts';

/** The load has ended, and all is as it has to be, through every node. */
export async function expectSettled(cluster: LocalCluster, load: Load, nodes: readonly number[]): Promise<void> {
  await load.stop();
  load.expect(null);
  expect(await whatIsWrong(cluster, nodes)).toEqual([]);
  for (const node of nodes) expect(await load.verify(node)).toEqual([]);
  expect(load.failures.splice(0)).toEqual([]);
}
