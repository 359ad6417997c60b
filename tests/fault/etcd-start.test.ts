import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePorts } from '../../src/local/free-ports.ts';
import { EtcdStore } from '../../src/store/etcd-store.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { tide } from './support/start.ts';

let dir: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'pgtide-etcd-start-'));
  // Run by root, PostgreSQL is somebody else and has to get through.
  chmodSync(dir, 0o755);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function refusal(meta: string): Promise<{ status: number | null; code: string | undefined; hint: boolean }> {
  const [listen, http, postgres] = await freePorts(3);
  const { status, stderr } = await tide([
    'start',
    `--store=${dir}/n1`,
    `--listen-addr=127.0.0.1:${listen}`,
    `--http-addr=127.0.0.1:${http}`,
    `--postgres-port=${postgres}`,
    '--insecure',
    `--meta=${meta}`,
  ]);
  return { status, code: /^code: (\w+)$/m.exec(stderr)?.[1], hint: /^hint: .+/m.test(stderr) };
}

test.each([
  ['http://127.0.0.1:2379', 'META_URL_INVALID'],
  ['etcd://', 'META_URL_INVALID'],
  ['etcd://127.0.0.1:1,127.0.0.1:2', 'META_UNREACHABLE'],
])('tide start --meta=%s is refused', async (meta, code) => {
  expect(await refusal(meta)).toEqual({ status: 1, code, hint: true });
});

describe.skipIf(ETCD === null)('with an etcd', () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start(1);
  });
  afterAll(() => etcd?.close());

  test('a cluster that another node has begun to found, and a copy on its way in, are left alone', async () => {
    const store = EtcdStore.at(etcd.url('/begun'));
    const cluster = { clusterId: 'c', startMode: 'start', founder: '10.0.0.9:26257' };
    await store.txn({ when: [], write: [{ put: '/catalog/cluster', value: cluster }] });
    expect(await refusal(etcd.url('/begun'))).toEqual({ status: 1, code: 'META_NOT_FOUNDED', hint: true });
    const coming = EtcdStore.at(etcd.url('/coming'));
    await coming.txn({ when: [], write: [{ put: '/migration', value: { clusterId: 'c', cluster } }] });
    expect(await refusal(etcd.url('/coming'))).toEqual({ status: 1, code: 'META_MOVING', hint: true });
    expect((await coming.range('/')).map((e) => e.key)).toEqual(['/migration']);
  });

  test('a cluster whose nodes are all down lets nobody join, and says so', async () => {
    const store = EtcdStore.at(etcd.url('/down'));
    const write = [
      { put: '/catalog/cluster', value: { clusterId: 'c', startMode: 'start' } },
      { put: '/catalog/node/1', value: { id: 1 } },
    ];
    await store.txn({ when: [], write });
    expect(await refusal(etcd.url('/down'))).toEqual({ status: 1, code: 'NO_MANAGER_ELECTED', hint: true });
  });
});
