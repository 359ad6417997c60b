import { chmodSync, lchownSync, lstatSync, mkdirSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { tideError } from '../core/errors.ts';
import { isStoreName } from '../node/store-names.ts';
import { runAs, type ServiceUser } from './user.ts';

const LINKS_MAX = 40;
/** Theirs who made them: `lost+found` is the file system's, and PostgreSQL's own has never been root's. */
const LEFT = new Set(['lost+found', 'pgdata', 'pgdata.new']);

/**
 * Makes the directory `store` for `user`, with the parents that are missing, and gives him what an older
 * pgtide has made there as root. Root goes by way of directories that nobody else can change, and stops at
 * the first that is somebody else's: what is still to be done there, the user does himself, with his own
 * rights. Links are followed where root made them, as far as the store; never inside. Throws
 * STORE_UNREACHABLE.
 */
export function handOver(store: string, user: ServiceUser): void {
  const place = walk(resolve(store));
  requireReachable(store, place.at, user);
  let at = place.at;
  if (!isRoots(lstatSync(at))) return;
  for (const name of place.missing) {
    at = join(at, name);
    // Another start has made it meanwhile: what is there now is looked at anew.
    if (!make(at)) {
      handOver(store, user);
      return;
    }
    chmodSync(at, 0o755);
  }
  if (place.missing.length > 0) give(at, user);
  else if (place.isStore) handOverStore(at, user);
}

/** False where somebody else has. */
function make(dir: string): boolean {
  try {
    mkdirSync(dir);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * How far root may go on the way to `path`: to `at`, from where the directories of `missing` are not there
 * yet.
 */
function walk(path: string): { at: string; missing: string[]; isStore: boolean } {
  let at: string = sep;
  let rest = parts(path);
  for (let links = 0; rest.length > 0; ) {
    if (!isRoots(lstatSync(at))) return { at, missing: [], isStore: false };
    const [name = '', ...after] = rest;
    const next = join(at, name);
    const found = lstatSync(next, { throwIfNoEntry: false });
    if (found === undefined) return { at, missing: rest, isStore: false };
    if (found.isSymbolicLink() && found.uid === 0 && links++ < LINKS_MAX) {
      rest = [...parts(resolve(at, readlinkSync(next))), ...after];
      at = sep;
    } else if (found.isDirectory()) {
      at = next;
      rest = after;
    } else return { at, missing: [], isStore: false };
  }
  return { at, missing: [], isStore: true };
}

const parts = (path: string) => path.split(sep).filter((part) => part !== '');

/** Nobody else makes, renames or removes anything of root's in it. */
function isRoots({ uid, gid, mode }: Stats): boolean {
  const byOthers = (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== 0);
  return uid === 0 && (!byOthers || (mode & 0o1000) !== 0);
}

function requireReachable(store: string, at: string, user: ServiceUser): void {
  const canEnter = (dir: string) => runAs(user, 'cd -- "$1"', [dir]);
  // The store itself may be closed: it is his in a moment.
  const last = at === resolve(store) ? dirname(at) : at;
  if (canEnter(last)) return;
  const parents = [last];
  for (let up = last; up !== dirname(up); up = dirname(up)) parents.unshift(dirname(up));
  const parent = parents.find((dir) => !canEnter(dir)) ?? last;
  throw tideError('STORE_UNREACHABLE', { path: store, parent, user: user.user });
}

/**
 * A store that root has made, and everything of root's in it. What it holds besides is told by who looks at
 * it next.
 */
function handOverStore(store: string, user: ServiceUser): void {
  if (!readdirSync(store).every(isStoreName)) return;
  handOverDirectory(store, user);
}

/**
 * Last of all the directory itself, whose owner says that the work is done: until then nobody else can change
 * anything in it.
 */
function handOverDirectory(dir: string, user: ServiceUser): void {
  const { uid, mode } = lstatSync(dir);
  if (uid !== 0 || (mode & 0o022) !== 0) return;
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    const found = lstatSync(path);
    if (found.uid !== 0 || LEFT.has(basename(path))) continue;
    if (found.isDirectory()) handOverDirectory(path, user);
    else if (found.isFile()) give(path, user);
  }
  give(dir, user);
}

function give(path: string, { uid, gid }: ServiceUser): void {
  lchownSync(path, uid, gid);
}
