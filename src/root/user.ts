import { spawnSync } from 'node:child_process';
import { tideError } from '../core/errors.ts';

/** The user that a node and its PostgreSQL are, where root starts them. */
export interface ServiceUser {
  readonly user: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Whom root has to become. Null for an ordinary user, who stays who he is; for root the user named in
 * `PGTIDE_USER`, else `pgtide`, else `postgres`. Not `nobody`: what is his, is of everything else on the
 * machine that is given to nobody in particular. Throws NO_UNPRIVILEGED_USER.
 */
export function chooseUser(env: NodeJS.ProcessEnv = process.env): ServiceUser | null {
  if (process.getuid?.() !== 0) return null;
  const names = env.PGTIDE_USER ? [env.PGTIDE_USER] : ['pgtide', 'postgres'];
  let why = 'no such user';
  for (const user of names) {
    const uid = numericId('-u', user);
    const gid = numericId('-g', user);
    if (uid === null || gid === null) continue;
    if (uid === 0) why = `'${user}' is root itself`;
    else if (runAs({ user, uid, gid }, ':')) return { user, uid, gid };
    else why = `this process may not become '${user}' (a container without CAP_SETUID?)`;
  }
  throw tideError('NO_UNPRIVILEGED_USER', { tried: names.join(', '), why });
}

function numericId(what: '-u' | '-g', user: string): number | null {
  const { status, stdout } = spawnSync('id', [what, user], { cwd: '/', encoding: 'utf8' });
  return status === 0 ? Number(stdout) : null;
}

/**
 * Whether a line of shell succeeds as `user`: the kernel is asked instead of mode bits, so that ACLs and
 * mounts count as they are.
 */
export function runAs({ uid, gid }: ServiceUser, line: string, args: readonly string[] = []): boolean {
  const options = { uid, gid, cwd: '/', stdio: 'ignore', env: { PATH: '/usr/bin:/bin' } } as const;
  return spawnSync('/bin/sh', ['-c', line, 'sh', ...args], options).status === 0;
}

/** This process is `user` from now on, for good, with the groups that belong to him and no others. */
export function become({ user, uid, gid }: ServiceUser): void {
  (process as unknown as { initgroups(user: string, gid: number): void }).initgroups(user, gid);
  process.setgid?.(gid);
  process.setuid?.(uid);
  try {
    process.setuid?.(0);
  } catch {
    return;
  }
  throw tideError('INTERNAL', { why: `root's rights could not be given up for those of '${user}'` });
}
