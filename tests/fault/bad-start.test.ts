import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePorts } from '../../src/local/free-ports.ts';
import { createTable, LocalCluster, type LocalNode } from '../support/cluster.ts';
import { type Ended, processesOf, tide } from './support/start.ts';

let cluster: LocalCluster;
let first: LocalNode;
let stores = 0;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  first = await cluster.addNode({ flags: ['--min-nodes=1'] });
});

afterAll(async () => {
  await cluster?.close();
});

/** What the user reads: the sentence, the code, and whether a hint says what to do next. */
function refusal(ended: Ended): { status: number | null; text: string; code: string | undefined; hasHint: boolean } {
  const [text = ''] = ended.stderr.split('\n').filter((line) => line !== '');
  const code = /^code: (\w+)$/m.exec(ended.stderr)?.[1];
  return { status: ended.status, text, code, hasHint: /^hint: .+/m.test(ended.stderr) };
}

interface Flags {
  store?: string;
  listen?: string;
  http?: string;
  postgresPort?: string;
  join?: string;
  insecure?: boolean;
  more?: string[];
}

async function argumentsFor(flags: Flags): Promise<string[]> {
  const [listen, http, postgres] = await freePorts(3);
  return [
    'start',
    `--store=${flags.store ?? newStore()}`,
    `--listen-addr=${flags.listen ?? `127.0.0.1:${listen}`}`,
    `--http-addr=${flags.http ?? `127.0.0.1:${http}`}`,
    `--postgres-port=${flags.postgresPort ?? postgres}`,
    ...(flags.join === undefined ? [] : [`--join=${flags.join}`]),
    ...(flags.insecure === false ? [] : ['--insecure']),
    ...(flags.more ?? []),
  ];
}

const newStore = () => join(cluster.dir, `bad-${++stores}`);

async function start(flags: Flags): Promise<Ended> {
  return tide(await argumentsFor(flags));
}

/** What a refused start leaves may not stand in the way of a right one on the same store. */
async function startsWell(store: string, more: string[] = []): Promise<void> {
  expect(processesOf(store)).toEqual([]);
  const [listen] = await freePorts(1);
  const args = await argumentsFor({ store, listen: `127.0.0.1:${listen}`, more: ['--background', ...more] });
  const started = await tide(args);
  expect(started.stderr).toBe('');
  expect(started.status).toBe(0);
  const quit = await tide(['quit', `--host=127.0.0.1:${listen}`]);
  expect(quit.status).toBe(0);
  await expect.poll(() => processesOf(store), { timeout: 20_000 }).toEqual([]);
}

async function occupied(): Promise<{ port: number; server: Server }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as { port: number }).port, server };
}

test('flags that mean nothing', async () => {
  const wrong = [
    ['--listen-address=127.0.0.1:1', "unknown option '--listen-address'"],
    ['--postgres-port=70000', 'It has to be a whole number from 1 to 65535'],
    ['--listen-addr=127.0.0.1:99999', 'Port 99999 is not between 1 and 65535'],
    ['--http-addr=a:b:c', 'It has to be HOST:PORT'],
    ['--locality=nowhere', 'is not KEY=VALUE'],
    ['--min-nodes=0', 'It has to be a whole number'],
    ['extra', 'too many arguments'],
  ] as const;
  const store = newStore();
  const said = await Promise.all(wrong.map(async ([flag]) => refusal(await start({ store, more: [flag] }))));
  const wanted = wrong.map(([, text]) => ({
    status: 2,
    text: expect.stringContaining(text),
    code: 'USAGE',
    hasHint: true,
  }));
  expect(said).toEqual(wanted);
  expect(existsSync(store)).toBe(false);
});

test('no --insecure, and no --store', async () => {
  const store = newStore();
  expect(refusal(await start({ store, insecure: false }))).toMatchObject({
    status: 2,
    text: expect.stringContaining('insecure'),
    code: 'INSECURE_REQUIRED',
    hasHint: true,
  });
  expect(existsSync(store)).toBe(false);
  expect(refusal(await tide(['start', '--insecure']))).toMatchObject({
    status: 2,
    text: expect.stringContaining('--store=DIR'),
    code: 'USAGE',
    hasHint: true,
  });
});

test('each of the three ports in use', async () => {
  const { port, server } = await occupied();
  const store = newStore();
  const address = `127.0.0.1:${port}`;
  try {
    for (const [flag, flags] of [
      ['--listen-addr', { listen: address }],
      ['--http-addr', { http: address }],
      ['--postgres-port', { postgresPort: String(port) }],
    ] as const) {
      const said = refusal(await start({ store, ...flags }));
      expect(said).toEqual({ status: 1, text: expect.stringContaining('in use'), code: 'PORT_IN_USE', hasHint: true });
      expect(said.text).toContain(flag);
      expect(said.text).toContain(String(port));
      expect(existsSync(join(store, 'node.json'))).toBe(false);
    }
  } finally {
    server.close();
  }
  await startsWell(store);
});

test('a store that a running node has, and two starts on one new store at once', async () => {
  expect(refusal(await start({ store: first.store }))).toEqual({
    status: 1,
    text: expect.stringMatching(/in use by another node process \(pid \d+\)/),
    code: 'STORE_IN_USE',
    hasHint: true,
  });
  expect(first.isRunning).toBe(true);

  const store = join(newStore(), 'below', 'others');
  const both = await Promise.all([1, 2].map(() => start({ store, more: ['--background'] })));
  const [winner, loser] = both.sort((a, b) => (a.status ?? 9) - (b.status ?? 9));
  expect(winner?.status).toBe(0);
  expect(loser && refusal(loser)).toMatchObject({
    status: 1,
    text: expect.stringContaining('in use'),
    code: 'STORE_IN_USE',
    hasHint: true,
  });
  const listen = /--host[= ](\S+:\d+)|listen\S*\s*:?\s*(127\.0\.0\.1:\d+)/.exec(winner?.stdout ?? '');
  const pid = Number(JSON.parse(readFileSync(join(store, 'node.lock'), 'utf8')).pid);
  expect(listen ?? pid).toBeTruthy();
  process.kill(pid, 'SIGTERM');
  await expect.poll(() => processesOf(store), { timeout: 20_000 }).toEqual([]);
});

test('a store of another cluster', async () => {
  const store = newStore();
  await startsWell(store);
  const said = refusal(await start({ store, join: first.address }));
  expect(said).toEqual({
    status: 1,
    text: expect.stringMatching(/belongs to cluster .+ leads to cluster/),
    code: 'STORE_OTHER_CLUSTER',
    hasHint: true,
  });
  await startsWell(store);
});

test('an address that another cluster has by now is passed over where a second leads to its own', async () => {
  const [port] = await freePorts(1);
  const own = `127.0.0.1:${port}`;
  expect((await start({ store: newStore(), listen: own, more: ['--background'] })).status).toBe(0);
  const store = newStore();
  await startsWell(store, [`--join=${own}`]);
  await startsWell(store, [`--join=${first.address},${own}`]);
  expect(refusal(await start({ store, join: first.address }))).toMatchObject({
    status: 1,
    code: 'STORE_OTHER_CLUSTER',
  });
  expect((await tide(['quit', `--host=${own}`])).status).toBe(0);
});

test('join to nothing ends, join in the wrong mode is refused', async () => {
  const [nowhere] = await freePorts(1);
  const store = newStore();
  const began = performance.now();
  const said = refusal(await start({ store, join: `127.0.0.1:${nowhere}` }));
  expect(said).toEqual({
    status: 1,
    text: expect.stringContaining(`127.0.0.1:${nowhere}`),
    code: 'JOIN_UNREACHABLE',
    hasHint: true,
  });
  expect(performance.now() - began).toBeLessThan(20_000);

  const mode = refusal(await start({ store, join: first.address, more: ['--single-replica'] }));
  expect(mode).toEqual({
    status: 1,
    text: expect.stringContaining('single-replica'),
    code: 'CLUSTER_MODE_MISMATCH',
    hasHint: true,
  });
  expect(await cluster.admin({ do: 'node-status' })).toHaveLength(1);
  await startsWell(store);
  const other = refusal(await start({ store, more: ['--single-replica'] }));
  expect(other).toEqual({
    status: 1,
    text: expect.stringContaining('cannot be started as'),
    code: 'STORE_MODE_MISMATCH',
    hasHint: true,
  });
});

test('PostgreSQL of the wrong version, none at all, one that does not run', async () => {
  const store = newStore();
  const bin = join(cluster.dir, 'fake-bin');
  mkdirSync(bin);
  const missing = refusal(await start({ store, more: [`--postgres-bin=${bin}`] }));
  expect(missing).toEqual({ status: 1, text: expect.stringContaining(bin), code: 'POSTGRES_MISSING', hasHint: true });
  for (const program of ['postgres', 'initdb', 'pg_ctl']) fake(bin, program, `echo "${program} (PostgreSQL) 16.3"`);
  const old = refusal(await start({ store, more: [`--postgres-bin=${bin}`] }));
  expect(old).toEqual({
    status: 1,
    text: expect.stringMatching(/PostgreSQL 16\.3, but pgtide needs/),
    code: 'POSTGRES_WRONG_VERSION',
    hasHint: true,
  });
  for (const program of ['postgres', 'initdb', 'pg_ctl']) fake(bin, program, 'exit 127');
  const broken = refusal(await start({ store, more: [`--postgres-bin=${bin}`] }));
  expect(broken).toEqual({
    status: 1,
    text: expect.stringContaining('cannot be run'),
    code: 'POSTGRES_UNUSABLE',
    hasHint: true,
  });
  await startsWell(store);
});

test('a directory with something else in it, and a file in its place', async () => {
  const store = newStore();
  mkdirSync(store);
  writeFileSync(join(store, 'thesis.txt'), 'all of it');
  expect(refusal(await start({ store }))).toEqual({
    status: 1,
    text: expect.stringContaining('thesis.txt'),
    code: 'STORE_NOT_EMPTY',
    hasHint: true,
  });
  expect(readdirSync(store)).toEqual(['thesis.txt']);
  const file = join(store, 'thesis.txt');
  expect(refusal(await start({ store: file }))).toMatchObject({
    status: 1,
    text: expect.stringContaining(file),
    code: 'STORE_UNUSABLE',
    hasHint: true,
  });
});

test('a disk that is full, and one that is read-only', async (context) => {
  const disk = join(cluster.dir, 'disk');
  mkdirSync(disk);
  if (!mounts(['-t', 'tmpfs', '-o', 'size=4m,mode=755', 'tmpfs', disk])) {
    context.skip('a file system cannot be mounted here: full and read-only disks are NOT tested');
  }
  try {
    const store = join(disk, 'store');
    const full = refusal(await start({ store }));
    expect(full).toEqual({
      status: 1,
      text: expect.stringContaining('no room is left'),
      code: 'STORE_FULL',
      hasHint: true,
    });
    expect(processesOf(store)).toEqual([]);
    expect(existsSync(join(store, 'node.json'))).toBe(false);
    expect(mounts(['-o', 'remount,ro', disk])).toBe(true);
    const readOnly = refusal(await start({ store }));
    expect(readOnly).toEqual({
      status: 1,
      text: expect.stringContaining('cannot write'),
      code: 'STORE_READ_ONLY',
      hasHint: true,
    });
    expect(mounts(['-o', 'remount,rw,size=300m', disk])).toBe(true);
    await startsWell(store);
    expect(mounts(['-o', 'remount,ro', disk])).toBe(true);
    expect(refusal(await start({ store }))).toMatchObject({ status: 1, code: 'STORE_READ_ONLY', hasHint: true });
  } finally {
    execFileSync('umount', ['-l', disk]);
  }
});

test('the store of a decommissioned node; cleared, it joins under a new id', async () => {
  const second = await cluster.addNode();
  await createTable(cluster, 'CREATE TABLE t (id bigint PRIMARY KEY)', { partitions: 2, replicas: 1 });
  const { operation } = await cluster.admin({ do: 'node-decommission', nodes: [second.id] });
  await cluster.waitForOperation(operation ?? 0);
  await second.quit();
  const flags = { store: second.store, join: first.address };
  expect(refusal(await start(flags))).toEqual({
    status: 1,
    text: expect.stringContaining(`node ${second.id} was decommissioned`),
    code: 'STORE_DECOMMISSIONED',
    hasHint: true,
  });
  rmSync(second.store, { recursive: true });
  await startsWell(second.store, [`--join=${first.address}`]);
  const nodes = await cluster.admin({ do: 'node-status' });
  expect(nodes.map((node) => node.id).at(-1)).toBe(second.id + 1);
});

function fake(bin: string, program: string, body: string): void {
  const file = join(bin, program);
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, 0o755);
}

function mounts(args: string[]): boolean {
  try {
    execFileSync('mount', args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
