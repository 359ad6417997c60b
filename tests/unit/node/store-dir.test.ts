import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  holdStore,
  type NodeIdentity,
  prepareStore,
  readIdentity,
  requireSameCluster,
  requireStartable,
  storePaths,
  writeIdentity,
} from '../../../src/node/store-dir.ts';

const identity: NodeIdentity = {
  formatVersion: 1,
  nodeId: 4,
  clusterId: 'c1',
  startMode: 'start',
  state: 'member',
  listenAddress: ':26257',
  advertiseAddress: 'db1:26257',
  httpAddress: ':8080',
  postgresPort: 27257,
  metaHome: true,
  meta: null,
  manager: '127.0.0.1:26257',
  metaFrom: null,
  peers: [],
};

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgtide-store-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('identity', () => {
  it('comes back as written, and is null in a new store', async () => {
    const store = await prepareStore(join(dir, 'a/b'));
    expect(await readIdentity(store)).toBeNull();
    await writeIdentity(store, identity);
    await writeIdentity(store, { ...identity, state: 'decommissioned' });
    expect(await readIdentity(store)).toEqual({ ...identity, state: 'decommissioned' });
    expect((await readdir(store.root)).sort()).toEqual(['logs', 'meta', 'node.json']);
  });

  it.each([
    [{ ...identity, formatVersion: 7, more: 1 }, 'STORE_TOO_NEW'],
    [{ ...identity, nodeId: 0 }, 'STORE_DAMAGED'],
    [{ ...identity, startMode: 'other' }, 'STORE_DAMAGED'],
  ])('refuses %o', async (written, code) => {
    const store = await prepareStore(dir);
    await writeFile(join(dir, 'node.json'), JSON.stringify(written));
    await expect(readIdentity(store)).rejects.toMatchObject({ code });
  });

  it('refuses half a file', async () => {
    const store = await prepareStore(dir);
    await writeFile(join(dir, 'node.json'), '{"formatVersion": 1, "no');
    await expect(readIdentity(store)).rejects.toMatchObject({ code: 'STORE_DAMAGED' });
  });

  it('says why a store cannot start', () => {
    const store = storePaths(dir);
    expect(() => requireStartable(store, { ...identity, state: 'decommissioned' }, 'start')).toThrow(
      expect.objectContaining({
        code: 'STORE_DECOMMISSIONED',
        hint: expect.stringContaining('clear the store and join as a new node'),
      }),
    );
    expect(() => requireStartable(store, identity, 'start-single-replica')).toThrow(
      expect.objectContaining({ code: 'STORE_MODE_MISMATCH' }),
    );
    expect(() => requireSameCluster(store, identity, 'c2')).toThrow(
      /belongs to cluster c1, but --join leads to cluster c2/,
    );
    requireStartable(store, identity, 'start');
    requireSameCluster(store, identity, 'c1');
  });
});

describe('directory', () => {
  it('refuses a directory with other files, and leaves it as it is', async () => {
    await writeFile(join(dir, 'thesis.tex'), '');
    await expect(prepareStore(dir)).rejects.toMatchObject({
      code: 'STORE_NOT_EMPTY',
      details: { found: 'thesis.tex' },
    });
    expect(await readdir(dir)).toEqual(['thesis.tex']);
  });

  it("refuses somebody else's pgdata", async () => {
    await mkdir(join(dir, 'pgdata'));
    await writeFile(join(dir, 'pgdata', 'PG_VERSION'), '18\n');
    await expect(prepareStore(dir)).rejects.toMatchObject({
      code: 'STORE_NOT_EMPTY',
      details: { found: 'pgdata' },
    });
  });

  it('goes on where a first start was interrupted', async () => {
    await mkdir(join(dir, 'pgdata.new'));
    await prepareStore(dir);
  });

  it('refuses a file in the place of a directory', async () => {
    await writeFile(join(dir, 'file'), '');
    await expect(prepareStore(join(dir, 'file'))).rejects.toMatchObject({ code: 'STORE_UNUSABLE' });
    await expect(prepareStore(join(dir, 'file', 'x'))).rejects.toMatchObject({ code: 'STORE_UNUSABLE' });
  });
});

describe('lock', () => {
  it('keeps a second one out until it is released', async () => {
    const store = await prepareStore(dir);
    const lock = await holdStore(store);
    await expect(holdStore(store)).rejects.toMatchObject({ code: 'STORE_IN_USE', details: { pid: process.pid } });
    await lock.release();
    await (await holdStore(store)).release();
    expect(await readdir(dir)).toEqual(['logs', 'meta']);
  });

  it('does not respect a dead process, nor another process with its pid', async () => {
    const store = await prepareStore(dir);
    const child = spawn('true');
    await once(child, 'exit');
    await writeFile(join(dir, 'node.lock'), JSON.stringify({ pid: child.pid, begun: 'x' }));
    await (await holdStore(store)).release();
    await writeFile(join(dir, 'node.lock'), JSON.stringify({ pid: process.pid, begun: 'some other boot' }));
    await (await holdStore(store)).release();
    await writeFile(join(dir, 'node.lock'), 'torn');
    await (await holdStore(store)).release();
  });

  it('lets one of many starters take over a stale lock', async () => {
    const store = await prepareStore(dir);
    await writeFile(join(dir, 'node.lock'), JSON.stringify({ pid: 2 ** 22 + 1, begun: 'x' }));
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => holdStore(store)));
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    expect(JSON.parse(await readFile(join(dir, 'node.lock'), 'utf8'))).toMatchObject({ pid: process.pid });
    expect((await readdir(dir)).sort()).toEqual(['logs', 'meta', 'node.lock']);
  });
});
