import { afterAll, beforeAll, expect, test } from 'vitest';
import { LocalCluster } from '../support/cluster.ts';

/** The manager moves, and whoever knew of it dies before the others have heard. */

let cluster: LocalCluster;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (const _ of [1, 2, 3]) await cluster.addNode();
});
afterAll(() => cluster?.close());

const rows = (through: number) => cluster.admin({ do: 'node-status' }, { node: through });
const managerSeenBy = async (through: number) => (await rows(through)).find((n) => n.isManager)?.id;
const liveSeenBy = async (through: number) => (await rows(through)).filter((n) => n.isLive).map((n) => n.id);

async function expectAll(manager: number, through: readonly number[]): Promise<void> {
  for (const node of through) {
    await expect.poll(() => managerSeenBy(node).catch(() => null), { timeout: 30_000, interval: 200 }).toBe(manager);
    await expect.poll(() => liveSeenBy(node).catch(() => null), { timeout: 30_000, interval: 200 }).toEqual(through);
  }
}

/** From node `from` to node `to`, while the process of the third does not run; then `from` dies. */
async function moveUnseen(from: number, to: number, third: number): Promise<void> {
  await cluster.node(third).kill('SIGSTOP');
  await cluster.admin({ do: 'meta-move', node: to }, { node: from, timeoutMs: 60_000 });
  await cluster.node(from).kill();
}

test('a node that has not heard finds the manager by asking the others, while the old home is away', async () => {
  await moveUnseen(1, 2, 3);
  await cluster.node(3).kill('SIGCONT');
  await expect.poll(() => managerSeenBy(3).catch(() => null), { timeout: 30_000, interval: 200 }).toBe(2);
  await cluster.node(1).restart();
  await expectAll(2, [1, 2, 3]);
});

test('the old home starts beside one that takes it for the manager still, while the new home is away', async () => {
  await moveUnseen(2, 1, 3);
  await cluster.node(1).kill('SIGSTOP');
  await cluster.node(3).kill('SIGCONT');
  const back = cluster.node(2).restart();
  back.catch(() => {});
  await expect.poll(() => cluster.node(2).output, { timeout: 30_000 }).toContain('waits for the manager to answer');
  await cluster.node(1).kill('SIGCONT');
  await back;
  await expectAll(1, [1, 2, 3]);
});
