// Makes a checkout ready to run: dependencies installed, sources built. Does nothing where both are so
// already.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import process, { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const path = (...parts) => join(root, ...parts);
const stamp = path('dist', '.built-from');
const lock = path('dist', '.setup-lock');
const installedList = path('node_modules', '.package-lock.json');

const tsc = path('node_modules', 'typescript', 'bin', 'tsc');

const LOCK_WAIT_MAX_MS = 300_000;
const LOCK_POLL_MS = 200;

/**
 * Installs and builds what is missing or old, and says so on standard error. Ends the process where that
 * fails.
 */
export function setUp() {
  if (isInstalled() && isBuilt()) return;
  mkdirSync(path('dist'), { recursive: true });
  takeLock();
  try {
    // Whoever held the lock before us may have done it all.
    if (!isInstalled()) install();
    if (!isBuilt()) {
      process.stderr.write('pgtide: building …\n');
      build();
    }
  } finally {
    unlinkSync(lock);
  }
}

/**
 * For `tide` itself: a checkout that was never built is, but one that was runs as it is, and whoever may
 * build is told that its sources have changed. Nodes that run load some of it late, and would get the other
 * build.
 */
export function setUpOnce() {
  if (!existsSync(path('dist', 'main.js')) || !existsSync(installedList)) setUp();
  else if (!isBuilt() && mayBuild())
    process.stderr.write(
      'pgtide: the sources have changed since they were built; this runs the build (npm run build)\n',
    );
}

function mayBuild() {
  try {
    accessSync(path('dist'), constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * npm keeps a list of what it installed; `install` sets its time, which npm itself leaves alone when nothing
 * changed.
 */
function isInstalled() {
  const installed = modifiedMs(installedList);
  return installed !== null && installed >= (modifiedMs(path('package-lock.json')) ?? 0);
}

/**
 * `npm ci` refuses a lock file that leaves out another platform's optional packages (one written where the
 * registry did not have them); `npm install` takes it, installs the same versions, and with --no-save leaves
 * the lock file as it is.
 */
function install() {
  process.stderr.write('pgtide: installing dependencies …\n');
  if (!existsSync(path('package-lock.json'))) mustSucceed('installing', npm('install'));
  else if (npm('ci').status !== 0) mustSucceed('installing', npm('install', '--no-save'));
  utimesSync(installedList, new Date(), new Date());
}

function isBuilt() {
  return existsSync(path('dist', 'main.js')) && existsSync(stamp) && readFileSync(stamp, 'utf8') === sourcesHash();
}

/**
 * Builds, and notes from what. The hash is taken first: what changes during the build is built the next time.
 * Throws where it fails.
 */
export function build() {
  const hash = sourcesHash();
  mkdirSync(path('dist'), { recursive: true });
  mustSucceed(
    'building',
    spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, encoding: 'utf8' }),
  );
  writeFileSync(stamp, hash);
}

/** Contents, not times: a checkout of another commit may carry older times than the build. */
function sourcesHash() {
  const hash = createHash('sha256');
  for (const name of ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json']) addFile(hash, name);
  const sources = readdirSync(path('src'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const entry of sources.map((each) => join(each.parentPath, each.name)).sort())
    addFile(hash, entry.slice(root.length));
  return hash.digest('hex');
}

function addFile(hash, name) {
  if (existsSync(path(name)))
    hash
      .update(`${name}\0`)
      .update(readFileSync(path(name)))
      .update('\0');
}

function modifiedMs(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? null;
}

function npm(...args) {
  return spawnSync('npm', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 });
}

/** What programs say is shown only when they fail. */
function mustSucceed(what, { status, stdout, stderr, error }) {
  if (status === 0) return;
  const why = error ? error.message : `it ended with status ${status}`;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}ERROR: ${what} failed: ${why}\n`);
  if (existsSync(lock)) unlinkSync(lock);
  process.exit(1);
}

/** Several `tide` may start at once in a fresh checkout; one of them does the work. */
function takeLock() {
  const endMs = Date.now() + LOCK_WAIT_MAX_MS;
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!isAlive(lockHolder())) removeStaleLock();
    else if (Date.now() > endMs) {
      process.stderr.write(`ERROR: another process (${lockHolder()}) has been setting up this checkout for minutes\n`);
      process.exit(1);
    } else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_POLL_MS);
  }
}

function lockHolder() {
  try {
    return Number(readFileSync(lock, 'utf8'));
  } catch {
    return 0;
  }
}

/** Pid 0 is a lock being written or already gone: look again. */
function isAlive(pid) {
  if (pid === 0) return existsSync(lock) && Date.now() - (modifiedMs(lock) ?? 0) < 1_000;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function removeStaleLock() {
  try {
    unlinkSync(lock);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}

if (argv[1] === fileURLToPath(import.meta.url)) setUp();
