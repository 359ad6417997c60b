import { chmod, lstat, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Where root keeps what others run (`PGTIDE_CACHE`): not /tmp, which is swept by age, and often `noexec`. */
export function systemCache(): string {
  return process.env.PGTIDE_CACHE ?? '/var/cache/pgtide';
}

/**
 * A directory that everybody may read and only its maker can have filled, in the first of `dirs` where that
 * works: the one that is there already, or a new one that `fill` fills. Named by its contents, it is made
 * once. Says why not where it cannot be had.
 */
export async function sharedCopy(
  name: string,
  dirs: readonly string[],
  fill: (fresh: string) => Promise<void>,
): Promise<{ path: string } | { why: string }> {
  let why = 'no cache directory';
  for (const dir of dirs) {
    const target = join(dir, name);
    try {
      if ((await isTrusted(dir)) && (await isTrusted(target))) return { path: target };
      await mkdir(dir, { recursive: true });
      if (await isOurs(dir)) await chmod(dir, 0o755);
      if (!(await isTrusted(dir))) why = `${dir} belongs to somebody else or can be written by others`;
      else if (await copyInto(dir, target, fill)) return { path: target };
      else why = `${target} belongs to somebody else or can be written by others`;
    } catch (error) {
      why = (error as Error).message;
    }
  }
  return { why };
}

/**
 * A directory (not a link to one) that only this user, or root, could have filled: what is in it will be
 * executed.
 */
async function isTrusted(dir: string): Promise<boolean> {
  const found = await lstat(dir).catch(() => null);
  const byUs = found?.uid === 0 || found?.uid === process.getuid?.();
  return found?.isDirectory() === true && byUs && (found.mode & 0o022) === 0;
}

async function isOurs(dir: string): Promise<boolean> {
  const found = await lstat(dir).catch(() => null);
  return found?.isDirectory() === true && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
}

/**
 * Fills a directory beside `target` and renames it there, so that nobody sees half a copy. False where what
 * is there then is not to be trusted.
 */
async function copyInto(dir: string, target: string, fill: (fresh: string) => Promise<void>): Promise<boolean> {
  const fresh = await mkdtemp(join(dir, 'new-'));
  try {
    await fill(fresh);
    await openToAll(fresh);
    // Fails where another process was first; its copy is as good.
    await rename(fresh, target).catch(() => {});
    return await isTrusted(target);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

async function openToAll(root: string): Promise<void> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    else if (entry.isFile()) await chmod(path, (await lstat(path)).mode & 0o100 ? 0o755 : 0o644);
  }
  await chmod(root, 0o755);
}
