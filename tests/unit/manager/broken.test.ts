import { expect, test, vi } from 'vitest';
import { factsOf, startedManager } from './support/started.ts';

/** What somebody else has written: a manager that meets it says so once it is seen, and can be let go of. */
test.each([
  ['/op/', 'operation 1 was written by another manager'],
  ['/catalog/', 'the catalog was written by another manager'],
])('a manager whose writes to %s are refused says that it cannot go on', async (prefix, why) => {
  const { manager, store, broken } = await startedManager();
  const txn = store.txn.bind(store);
  store.txn = (request) => {
    const isRefused = request.when.some(({ key, revision }) => key.startsWith(prefix) && revision > 0);
    return isRefused ? Promise.resolve({ ok: false, revision: 99 }) : txn(request);
  };
  await manager.join(factsOf(1)).catch(() => {});
  await vi.waitUntil(() => broken.length > 0, { timeout: 10_000 });
  expect(String(broken[0])).toContain(why);
  await manager.abandon();
});
