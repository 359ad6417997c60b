import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  type Stats,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { freePorts } from '../../src/local/free-ports.ts';
import { chooseUser, type ServiceUser } from '../../src/root/user.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { type Ended, processesOf, tide } from './support/start.ts';

/**
 * What root does of a node, and what it does not: as PostgreSQL's user whoever may run a program there could
 * have prepared the store.
 */
const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const NOBODY = 65_534;
const SECRET = 'not-for-children';
let dir: string;
let user: ServiceUser;
let precious: string;
let listen: string;
let flags: string[];

describe.runIf(process.getuid?.() === 0)('a node that root starts', () => {
  beforeAll(async () => {
    user = must(chooseUser() ?? undefined, 'user');
    dir = mkdtempSync(join(tmpdir(), 'pgtide-root-'));
    chmodSync(dir, 0o755);
    precious = join(dir, 'precious');
    writeFileSync(precious, 'as it was\n', { mode: 0o600 });
    const [sql, http, postgres] = await freePorts(3);
    listen = `127.0.0.1:${sql}`;
    flags = [`--listen-addr=${listen}`, `--http-addr=127.0.0.1:${http}`, `--postgres-port=${postgres}`, '--insecure'];
  });
  afterAll(async () => {
    for (const line of processesOf(dir)) process.kill(Number.parseInt(line, 10), 'SIGKILL');
    rmSync(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  });

  test('is not root, nor is anything that it starts or makes, and nobody else reads any of it', async () => {
    const store = join(dir, 'made', 'below', 'n1');
    expect(await start(store)).toMatchObject({ status: 0, stderr: '' });
    const pids = processesOf(store).map((line) => Number.parseInt(line, 10));
    expect(pids.length).toBeGreaterThan(1);
    for (const pid of pids) {
      expect(identity(pid)).toEqual({ uid: Array(4).fill(user.uid), gid: Array(4).fill(user.gid), root: false });
      expect(readFileSync(`/proc/${pid}/environ`, 'latin1')).not.toContain(SECRET);
    }
    const made = everythingIn(store);
    expect(made.length).toBeGreaterThan(500);
    expect(made.filter(({ stat }) => stat.uid !== user.uid || stat.gid !== user.gid)).toEqual([]);
    // The way to PostgreSQL's socket is closed; its own mode is PostgreSQL's.
    const open = made.filter(({ stat }) => (stat.mode & 0o077) !== 0 && !stat.isSocket() && !stat.isSymbolicLink());
    expect(open.map(({ path }) => path)).toEqual([]);
    expect(statSync(join(dir, 'made')).uid).toBe(0);
    await quit(store);
  });

  test('follows no link that PostgreSQL’s user has put into its store', async () => {
    const store = join(dir, 'made', 'below', 'n1');
    const planted = [
      'pgdata/pgtide.conf',
      'pgdata/pg_hba.conf',
      'pgdata/pgtide_fence.conf',
      'pgdata/pgtide_fence.conf.new',
      'pgdata/postmaster.pid',
      'node.json.new',
      'node.lock.turn',
      'logs/node.log',
      'logs/postgresql.log',
      'meta/probe',
    ];
    const before = planted.map((name) => {
      const path = join(store, name);
      const was = existsSync(path) ? readFileSync(path) : null;
      rmSync(path, { force: true });
      symlinkSync(precious, path);
      lchownSync(path, user.uid, user.gid);
      return { path, was };
    });
    // Whatever stands in the way is named; without it the next one is met.
    for (const { path, was } of before) {
      const ended = await start(store);
      untouched();
      if (ended.status === 0) break;
      expect(/^code: (\w+)$/m.exec(ended.stderr)?.[1]).toMatch(/^(STORE|POSTGRES)_/);
      rmSync(path, { force: true });
      if (was === null) continue;
      writeFileSync(path, was, { mode: 0o600 });
      chownSync(path, user.uid, user.gid);
    }
    if (processesOf(store).length > 0) await quit(store);
    untouched();
    for (const { path, was } of before) {
      rmSync(path, { force: true });
      if (was === null) continue;
      writeFileSync(path, was, { mode: 0o600 });
      chownSync(path, user.uid, user.gid);
    }
    // A directory in place of one: the way of everything in it.
    const outside = join(dir, 'outside');
    mkdirSync(outside);
    rmSync(join(store, 'run'), { recursive: true });
    symlinkSync(outside, join(store, 'run'));
    lchownSync(join(store, 'run'), user.uid, user.gid);
    const ended = await start(store);
    expect(readdirSync(outside)).toEqual([]);
    expect(lstatSync(outside).uid).toBe(0);
    rmSync(join(store, 'run'));
    if (ended.status === 0) await quit(store);
    expect(await start(store)).toMatchObject({ status: 0 });
  });

  test('takes up a store, and the server that runs in it, of a version that was root itself', async () => {
    const store = join(dir, 'made', 'below', 'n1');
    const lock = JSON.parse(readFileSync(join(store, 'node.lock'), 'utf8')) as { pid: number };
    const server = readFileSync(join(store, 'pgdata', 'postmaster.pid'), 'utf8').split('\n')[0];
    process.kill(lock.pid, 'SIGKILL');
    for (const { path, stat } of everythingIn(store)) {
      if (/\/(pgdata|run)(\/|$)/.test(path.slice(store.length))) continue;
      lchownSync(path, 0, 0);
      chmodSync(path, stat.isDirectory() ? 0o755 : 0o644);
    }
    // A link is not followed, and not given away, whoever made it.
    const link = join(store, 'logs', 'link.log');
    symlinkSync(precious, link);
    const refused = await start(store);
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('code: STORE_OF_ANOTHER_USER') });
    expect(refused.stderr).toContain(link);
    untouched();
    rmSync(link);
    expect(await start(store)).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(join(store, 'pgdata', 'postmaster.pid'), 'utf8').split('\n')[0]).toBe(server);
    expect(everythingIn(store).filter(({ stat }) => stat.uid !== user.uid)).toEqual([]);
    expect(everythingIn(store).filter(({ stat }) => stat.isFile() && (stat.mode & 0o077) !== 0)).toEqual([]);
    untouched();
    await quit(store);
  });

  test('leaves alone, and names, what belongs to somebody else', async () => {
    const store = join(dir, 'made', 'below', 'n1');
    chownSync(join(store, 'pgdata'), NOBODY, NOBODY);
    const said = await start(store);
    expect(said).toMatchObject({ status: 1, stderr: expect.stringContaining('code: STORE_OF_ANOTHER_USER') });
    expect(said.stderr).toContain(join(store, 'pgdata'));
    expect(statSync(join(store, 'pgdata')).uid).toBe(NOBODY);
    chownSync(join(store, 'pgdata'), user.uid, user.gid);
    const port = await start(store, ['--listen-addr=127.0.0.1:81']);
    expect(port).toMatchObject({ status: 1, stderr: expect.stringContaining('a port above 1023') });
    const nobody = await tide(['start', `--store=${store}`, ...flags], { PGTIDE_USER: 'no-such-user' });
    expect(nobody).toMatchObject({ status: 1, stderr: expect.stringContaining('useradd --system') });
    const root = await tide(['start', `--store=${store}`, ...flags], { PGTIDE_USER: 'root' });
    expect(root).toMatchObject({ status: 1, stderr: expect.stringContaining("'root' is root itself") });
  });

  test('names the directory that keeps its user out of the store, and makes nothing there', async () => {
    const closed = join(dir, 'shut');
    mkdirSync(closed, { mode: 0o700 });
    const said = await start(join(closed, 'n1'));
    expect(said).toMatchObject({ status: 1, stderr: expect.stringContaining('code: STORE_UNREACHABLE') });
    expect(said.stderr).toContain(closed);
    expect(readdirSync(closed)).toEqual([]);
  });

  test.skipIf(ETCD === null)('runs from a checkout that only root can read, with its watchdog', async () => {
    const closed = join(dir, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    for (const name of ['dist', 'package.json']) cpSync(join(CHECKOUT, name), join(closed, name), { recursive: true });
    symlinkSync(join(CHECKOUT, 'node_modules'), join(closed, 'node_modules'));
    const etcd = await EtcdCluster.start(1);
    try {
      const store = join(dir, 'n2');
      const args = [join(closed, 'dist', 'main.js'), 'start', `--store=${store}`, ...flags];
      const env = { ...process.env, PGTIDE_CACHE: join(dir, 'cache') };
      execFileSync(process.execPath, [...args, '--background', `--meta=${etcd.url()}`], { env, stdio: 'pipe' });
      const lines = processesOf(store);
      expect(lines.filter((line) => line.includes(closed))).toEqual([]);
      const watchdog = lines.filter((line) => line.includes('watchdog.js'));
      expect(watchdog).toEqual([expect.stringContaining(join(dir, 'cache', 'program-'))]);
      expect(identity(Number.parseInt(must(watchdog[0], 'watchdog'), 10))).toMatchObject({ root: false });
      expect(lstatSync(join(dir, 'cache')).uid).toBe(0);
      await quit(store);
    } finally {
      await etcd.close();
    }
  });
});

function start(store: string, more: string[] = []): Promise<Ended> {
  return tide(['start', `--store=${store}`, ...flags, ...more, '--background'], {
    SOME_TOKEN: SECRET,
    PGPASSWORD: SECRET,
  });
}

async function quit(store: string): Promise<void> {
  expect((await tide(['quit', `--host=${listen}`])).status).toBe(0);
  await expect.poll(() => processesOf(store), { timeout: 60_000 }).toEqual([]);
}

function untouched(): void {
  expect(readFileSync(precious, 'utf8')).toBe('as it was\n');
  const { uid, gid, mode } = statSync(precious);
  expect({ uid, gid, mode: mode & 0o777 }).toEqual({ uid: 0, gid: 0, mode: 0o600 });
}

/** Real, effective, saved and file system's. */
function identity(pid: number): { uid: number[]; gid: number[]; root: boolean } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const ids = (name: string) =>
    (new RegExp(`^${name}:(.*)$`, 'm').exec(status)?.[1] ?? '').trim().split(/\s+/).map(Number);
  return { uid: ids('Uid'), gid: ids('Gid'), root: ids('Groups').includes(0) };
}

function everythingIn(store: string): { path: string; stat: Stats }[] {
  const paths = [store, ...readdirSync(store, { recursive: true, encoding: 'utf8' }).map((name) => join(store, name))];
  // Of a running server: some go meanwhile.
  return paths.flatMap((path) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    return stat === undefined ? [] : [{ path, stat }];
  });
}
