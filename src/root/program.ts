import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { copyFile, mkdir, symlink } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { messageOf, tideError } from '../core/errors.ts';
import { copyOfEmbedded, embeddedName, embeddedPackage } from '../postgres/embedded.ts';
import { sharedCopy, systemCache } from '../postgres/shared-copy.ts';
import { runAs, type ServiceUser } from './user.ts';

/**
 * The directory `dist` of a program that `user` can read and run, to load everything from: what a node loads
 * late or starts as a process of its own is read with his rights. That is `dist` itself or, where it lies in
 * /root or the like, a copy of it with all that it needs, Node.js included, which only root can change.
 * Throws PROGRAM_UNREADABLE.
 */
export async function readableProgram(dist: string, user: ServiceUser, cacheDirs = [systemCache()]): Promise<string> {
  const root = dirname(dist);
  const packages = packagesOf(root);
  const needed = [join(dist, 'main.js'), ...packages.map((dir) => join(dir, 'package.json'))];
  try {
    await requireNode(user, cacheDirs);
    if (runAs(user, 'for file; do test -r "$file" || exit 1; done', needed)) return dist;
    const base = baseOf(root);
    const files = packages.filter((dir) => !isEmbedded(dir)).flatMap((dir) => filesOf(dir, dir === root));
    const copy = await sharedCopy(`program-${keyOf(base, files, dist)}`, cacheDirs, (fresh) =>
      fill(fresh, base, files),
    );
    if ('why' in copy) throw new Error(copy.why);
    const copied = join(copy.path, relative(base, dist));
    if (!runAs(user, 'test -r "$1"', [join(copied, 'main.js')])) throw new Error(`${copied} is closed to him, too`);
    return copied;
  } catch (error) {
    throw tideError('PROGRAM_UNREADABLE', { where: root, user: user.user, why: messageOf(error) }, error);
  }
}

/** Node.js, too, may lie where only root gets to: what is started from now on is the copy. */
async function requireNode(user: ServiceUser, cacheDirs: readonly string[]): Promise<void> {
  const node = process.execPath;
  if (runAs(user, 'test -x "$1"', [node])) return;
  const { size, mtimeMs } = statSync(node);
  const copy = await sharedCopy(`node-${process.version}-${size}-${Math.round(mtimeMs)}`, cacheDirs, (fresh) =>
    copyFile(node, join(fresh, basename(node))),
  );
  if ('why' in copy) throw new Error(copy.why);
  const copied = join(copy.path, basename(node));
  if (!runAs(user, '"$1" --version', [copied])) throw new Error(`the copy of Node.js in ${copied} does not run`);
  process.execPath = copied;
}

/** The program's own directory and those of all packages it depends on, wherever npm has put them. */
function packagesOf(root: string): string[] {
  const found = new Set([root]);
  for (const dir of found) {
    const { dependencies, optionalDependencies, peerDependencies } = JSON.parse(
      readFileSync(join(dir, 'package.json'), 'utf8'),
    ) as Record<string, object | undefined>;
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      const at = installed(name, dir);
      // An optional one of another platform.
      if (at !== null) found.add(at);
    }
  }
  return [...found];
}

function installed(name: string, from: string): string | null {
  for (let at = from; ; at = dirname(at)) {
    const found = join(at, 'node_modules', name);
    if (existsSync(join(found, 'package.json'))) return found;
    if (at === dirname(at)) return null;
  }
}

/**
 * Above it nothing of the program is: the checkout, or what holds the `node_modules` that it is installed in.
 */
function baseOf(root: string): string {
  const at = root.lastIndexOf(`${sep}node_modules${sep}`);
  return at === -1 ? root : root.slice(0, at);
}

const isEmbedded = (dir: string) => dir.endsWith(`${sep}${embeddedName().replaceAll('/', sep)}`);

/** Without the packages inside it, which are packages of their own; of the program itself what runs. */
function filesOf(dir: string, isProgram: boolean): string[] {
  if (lstatSync(dir).isSymbolicLink()) throw new Error(`${dir} is a link`);
  const inside = (at: string): string[] =>
    readdirSync(at, { withFileTypes: true }).flatMap((entry) => {
      if (entry.name === 'node_modules') return [];
      return entry.isDirectory() ? inside(join(at, entry.name)) : entry.isFile() ? [join(at, entry.name)] : [];
    });
  return isProgram ? [join(dir, 'package.json'), ...inside(join(dir, 'dist'))] : inside(dir);
}

/**
 * Packages by their names, versions and sizes, the program by its contents: it is built again and again under
 * one version.
 */
function keyOf(base: string, files: readonly string[], dist: string): string {
  const hash = createHash('sha256');
  for (const file of [...files].sort()) {
    hash.update(`${relative(base, file)}\0${statSync(file).size}\0`);
    if (basename(file) === 'package.json' || file.startsWith(dist)) hash.update(readFileSync(file));
  }
  return hash.digest('hex').slice(0, 16);
}

async function fill(fresh: string, base: string, files: readonly string[]): Promise<void> {
  for (const file of files) {
    const to = join(fresh, relative(base, file));
    await mkdir(dirname(to), { recursive: true });
    await copyFile(file, to);
  }
  // PostgreSQL is most of it and changes least: it has a copy of its own.
  const scope = join(fresh, 'node_modules', dirname(embeddedName()));
  await mkdir(scope, { recursive: true });
  await symlink(await copyOfEmbedded(embeddedPackage(join(base, 'x'))), join(scope, basename(embeddedName())));
}
