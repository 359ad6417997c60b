import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { TideError } from '../../src/core/errors.ts';
import { EtcdStore } from '../../src/store/etcd-store.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { metaStoreContract, sharedStoreContract } from '../support/meta-store-contract.ts';

let etcd: EtcdCluster;
let prefixes = 0;
const open = async () => EtcdStore.at(etcd.url(`/contract-${++prefixes}`));

describe.skipIf(ETCD === null)('etcd', () => {
  beforeAll(async () => {
    etcd = await EtcdCluster.start(3);
  });
  afterAll(() => etcd?.close());

  describe('meta store contract', () => metaStoreContract(open));
  describe('shared store contract', () => sharedStoreContract(open, (ms) => sleep(ms)));

  it('keeps clusters with different prefixes apart', async () => {
    const [a, b] = [await open(), await open()];
    await a.txn({ when: [], write: [{ put: '/x', value: 'a' }] });
    expect(await b.range('/')).toEqual([]);
  });

  it('says what etcd refuses', async () => {
    const store = await open();
    const huge = 'x'.repeat(2 << 20);
    await expect(store.txn({ when: [], write: [{ put: '/huge', value: huge }] })).rejects.toMatchObject({
      code: 'META_REFUSED',
    });
    expect(await store.get('/huge')).toBeNull();
  });

  it('goes on with the other servers while one is killed, and every write is applied once', async () => {
    const store = await open();
    await store.txn({ when: [], write: [{ put: '/n', value: 0 }] });
    let ended = false;
    let written = 0;
    const writer = (async () => {
      // Each write names the one before it: one that were applied twice, or lost, would break the chain.
      let { revision } = await store.txn({ when: [], write: [{ put: '/n', value: 0 }] });
      while (!ended) {
        const next = await store.txn({ when: [{ key: '/n', revision }], write: [{ put: '/n', value: written + 1 }] });
        expect(next.ok).toBe(true);
        ({ revision } = next);
        written += 1;
      }
    })();
    for (let turn = 0; turn < 2; turn++) {
      const victim = await etcd.leader();
      await sleep(200);
      await etcd.signal(victim);
      const before = written;
      await expect.poll(() => written, { timeout: 8_000 }).toBeGreaterThan(before + 20);
      etcd.startMember(victim);
      await etcd.untilReady();
    }
    ended = true;
    await writer;
    expect((await store.get('/n'))?.value).toBe(written);
    expect(written).toBeGreaterThan(40);
  });

  it('gives up on a majority that is away, says so, and is there when it is back', async () => {
    const store = await open();
    await store.txn({ when: [], write: [{ put: '/a', value: 1 }] });
    for (const member of [0, 1]) await etcd.signal(member, 'SIGSTOP');
    const beganMs = performance.now();
    const error = await store.get('/a').catch((e: unknown) => e);
    expect(performance.now() - beganMs).toBeLessThan(6_000);
    expect(error).toBeInstanceOf(TideError);
    expect(error).toMatchObject({ code: 'META_UNREACHABLE', retry: 'later' });
    for (const member of [0, 1]) await etcd.signal(member, 'SIGCONT');
    await etcd.untilReady();
    expect((await store.get('/a'))?.value).toBe(1);
  });
});

test.concurrent('a server that speaks something else is not taken for etcd', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () =>
      socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 9\r\n\r\nNot Found'),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  const { port } = server.address() as { port: number };
  await expect(EtcdStore.at(`etcd://127.0.0.1:${port}`).get('/a')).rejects.toMatchObject({
    code: 'META_UNREACHABLE',
    message: expect.stringContaining('is not etcd 3.4 or later (HTTP status 404)'),
  });
  server.close();
});

test.concurrent('nobody there is said with the reason', async () => {
  await expect(EtcdStore.at('etcd://127.0.0.1:1,127.0.0.1:2').get('/a')).rejects.toMatchObject({
    code: 'META_UNREACHABLE',
    message: expect.stringContaining('ECONNREFUSED'),
  });
});
