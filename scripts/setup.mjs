// Makes a checkout ready to run: dependencies installed, sources built. Does nothing where both are so already.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const path = (...parts) => join(root, ...parts);
const stamp = path('dist', '.built-from');
const lock = path('dist', '.setup-lock');

const LOCK_WAIT_MAX_MS = 300_000;
const LOCK_POLL_MS = 200;

/** Installs and builds what is missing or old, and says so on standard error. Ends the process where that fails. */
export function setUp() {
  if (isInstalled() && isBuilt()) return;
  mkdirSync(path('dist'), { recursive: true });
  takeLock();
  try {
    // Whoever held the lock before us may have done it all.
    if (!isInstalled()) install();
    if (!isBuilt()) build();
  } finally {
    unlinkSync(lock);
  }
}

/** npm writes node_modules/.package-lock.json at the end of every install. */
function isInstalled() {
  const installed = modifiedMs(path('node_modules', '.package-lock.json'));
  return installed !== null && installed >= (modifiedMs(path('package-lock.json')) ?? 0);
}

function install() {
  run('installing dependencies', existsSync(path('package-lock.json')) ? ['ci'] : ['install']);
}

function isBuilt() {
  return existsSync(path('dist', 'main.js')) && existsSync(stamp) && readFileSync(stamp, 'utf8') === sourcesHash();
}

/** The hash is taken first: what changes during the build is built the next time. */
function build() {
  const hash = sourcesHash();
  run('building', ['run', 'build']);
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

/** Runs npm silently; what it said is shown only when it fails. */
function run(what, args) {
  process.stderr.write(`pgtide: ${what} …\n`);
  const { status, stdout, stderr, error } = spawnSync('npm', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status === 0) return;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  process.stderr.write(
    `ERROR: ${what} failed: npm ${args.join(' ')} ${error ? error.message : `ended with status ${status}`}\n`,
  );
  unlinkSync(lock);
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
