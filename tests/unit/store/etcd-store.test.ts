import { describe, expect, it } from 'vitest';
import { EtcdRefusal, type EtcdTransport, type RangeRequest, type TxnRequest } from '../../../src/store/etcd-api.ts';
import { EtcdStore } from '../../../src/store/etcd-store.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');
const plain = (text: string) => Buffer.from(text, 'base64').toString();

/** A store whose etcd says what `answers` give, in turn, and what that was asked. */
function storeOver(...answers: (object | Error)[]) {
  const asked: { path: string; body: object }[] = [];
  const transport: EtcdTransport = async (path, body) => {
    asked.push({ path, body });
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return (answer ?? {}) as Record<string, unknown>;
  };
  return { store: new EtcdStore(transport, '/p'), asked };
}

const header = { revision: '9' };

describe('what the store asks of etcd', () => {
  it('reads a prefix page by page, all as it was at the first', async () => {
    const kv = (key: string) => ({ key: base64(`/p${key}`), value: base64('1'), mod_revision: '4' });
    const { store, asked } = storeOver(
      { header, kvs: [kv('/a/1')], more: true },
      { header: { revision: '12' }, kvs: [kv('/a/2')] },
    );
    const found = await store.range('/a/');
    expect(found).toEqual(['/a/1', '/a/2'].map((key) => ({ key, value: 1, revision: 4 })));
    const pages = asked.map(({ body }) => [plain((body as RangeRequest).key), (body as RangeRequest).revision]);
    expect(pages).toEqual([
      ['/p/a/', undefined],
      ['/p/a/1\0', '9'],
    ]);
  });

  it('knows a transaction of its own that had come through before it was repeated', async () => {
    const newest: string[] = [];
    const store = new EtcdStore(async (_, body) => {
      const [mark] = (body as TxnRequest).success;
      if (mark === undefined || !('request_put' in mark)) throw new Error('it leaves no mark');
      newest.push(plain(mark.request_put.key));
      const kvs = [{ ...mark.request_put, mod_revision: '8' }];
      return { header, responses: [{ response_range: { kvs } }] };
    }, '/p');
    const write = [{ put: '/x', value: 1 }];
    expect(await store.txn({ when: [{ key: '/x', revision: 3 }], write })).toEqual({ ok: true, revision: 8 });
    expect(newest).toEqual(['/p!writer']);
  });

  it('a condition that does not hold is no error', async () => {
    const kvs = [{ key: base64('/p!writer'), value: base64('"another"'), mod_revision: '8' }];
    const { store } = storeOver({ header, responses: [{ response_range: { kvs } }] });
    expect(await store.txn({ when: [], write: [] })).toEqual({ ok: false, revision: 9 });
  });

  it('says when etcd is full, until it takes something again', async () => {
    const full = new EtcdRefusal(8, 'etcdserver: mvcc: database space exceeded');
    const { store } = storeOver(full, new EtcdRefusal(8, 'request is too large'), { header, succeeded: true });
    const write = [{ put: '/x', value: 1 }];
    await expect(store.txn({ when: [], write })).rejects.toMatchObject({ code: 'META_FULL' });
    expect(store.isFull).toBe(true);
    await expect(store.txn({ when: [], write })).rejects.toMatchObject({ code: 'META_REFUSED' });
    await store.txn({ when: [], write });
    expect(store.isFull).toBe(false);
  });

  it('ends a lease that has ended already, and knows one that has', async () => {
    const { store, asked } = storeOver(
      { ID: '77' },
      { result: { TTL: '4' } },
      { result: {} },
      new EtcdRefusal(5, 'not found'),
    );
    expect(await store.grant(3_500)).toBe('77');
    expect([await store.keepAlive('77'), await store.keepAlive('77')]).toEqual([true, false]);
    await store.revoke('77');
    expect(asked.map(({ path, body }) => [path, body])).toEqual([
      ['lease/grant', { TTL: '4' }],
      ['lease/keepalive', { ID: '77' }],
      ['lease/keepalive', { ID: '77' }],
      ['lease/revoke', { ID: '77' }],
    ]);
    const { store: refused } = storeOver(new EtcdRefusal(7, 'permission denied'));
    await expect(refused.revoke('77')).rejects.toThrow('permission denied');
  });
});
