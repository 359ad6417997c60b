import { lchown, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { tideError } from '../core/errors.ts';
import { exec } from './exec.ts';

/** The user PostgreSQL runs as where pgtide itself runs as root. */
export interface RunAs {
  readonly user: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Whom to run PostgreSQL as. Null (as this process) for an ordinary user; for root, which PostgreSQL refuses, the user named
 * in `PGTIDE_USER`, else `postgres`, else `nobody`. Throws NO_UNPRIVILEGED_USER.
 */
export async function chooseUser(env: NodeJS.ProcessEnv = process.env): Promise<RunAs | null> {
  if (process.getuid?.() !== 0) return null;
  const names = env.PGTIDE_USER ? [env.PGTIDE_USER] : ['postgres', 'nobody'];
  let why = 'no such user';
  for (const user of names) {
    const uid = await numericId('-u', user);
    const gid = await numericId('-g', user);
    if (uid === null || gid === null) continue;
    if (uid === 0) why = `'${user}' is root itself`;
    else if (await canBecome({ user, uid, gid })) return { user, uid, gid };
    else why = `this process may not become '${user}' (a container without CAP_SETUID?)`;
  }
  throw tideError('NO_UNPRIVILEGED_USER', { tried: names.join(', '), why });
}

async function numericId(what: '-u' | '-g', user: string): Promise<number | null> {
  const { status, stdout } = await exec('id', [what, user]);
  return status === 0 ? Number(stdout) : null;
}

async function canBecome(runAs: RunAs): Promise<boolean> {
  return (await exec('/bin/sh', ['-c', ':'], { runAs })).status === 0;
}

/**
 * The topmost directory on the way to (and including) `dir` that `runAs` cannot enter, or null where it gets there.
 * Asks the kernel as that user instead of reading mode bits, so that ACLs and read-only mounts count as they are.
 */
export async function blockingParent(dir: string, runAs: RunAs | null): Promise<string | null> {
  if (runAs === null || (await canEnter(dir, runAs))) return null;
  const parents = [dir];
  for (let at = dir; at !== dirname(at); at = dirname(at)) parents.unshift(dirname(at));
  for (const parent of parents) if (!(await canEnter(parent, runAs))) return parent;
  return dir;
}

async function canEnter(dir: string, runAs: RunAs): Promise<boolean> {
  return (await exec('/bin/sh', ['-c', 'cd -- "$1"', 'sh', dir], { runAs })).status === 0;
}

/** Throws STORE_UNREACHABLE, naming the parent in the way, where PostgreSQL's user could not get to its data in `dir`. */
export async function requireReachable(dir: string, runAs: RunAs | null): Promise<void> {
  const parent = await blockingParent(dir, runAs);
  if (runAs !== null && parent !== null) {
    throw tideError('STORE_UNREACHABLE', { path: dir, parent, user: runAs.user });
  }
}

/**
 * Makes `runAs` the owner of `dir` and all in it, where it is not already: a store may have been made by an ordinary user
 * and be started by root later, or with another PGTIDE_USER.
 */
export async function giveTo(dir: string, runAs: RunAs | null): Promise<void> {
  if (runAs === null || (await stat(dir)).uid === runAs.uid) return;
  for (const entry of await readdir(dir, { recursive: true })) await lchown(join(dir, entry), runAs.uid, runAs.gid);
  // Last, because its owner is what says that the work is done.
  await lchown(dir, runAs.uid, runAs.gid);
}
