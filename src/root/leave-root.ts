import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { embeddedBinDir } from '../postgres/embedded.ts';
import { handOver } from './hand-over.ts';
import { readableProgram } from './program.ts';
import { become, chooseUser } from './user.ts';

/**
 * What root does of a command that runs PostgreSQL: it chooses the user, sees to it that he can read the
 * program and gets to his store, and becomes him. Nothing is done as root after that, and nothing before it
 * in a directory that is somebody else's: whoever may run programs as PostgreSQL's user could have put a link
 * there. Does nothing for anybody but root. Throws NO_UNPRIVILEGED_USER, PROGRAM_UNREADABLE,
 * POSTGRES_MISSING, POSTGRES_UNUSABLE, STORE_UNREACHABLE.
 */
export async function leaveRoot({ store, postgresBin }: { store?: string; postgresBin?: string }): Promise<void> {
  const user = chooseUser();
  if (user === null) return;
  await readableProgram(fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, ''), user);
  // Its links can be made by root only, where they are missing.
  if (postgresBin === undefined) await embeddedBinDir();
  if (store !== undefined) handOver(resolve(store), user);
  become(user);
}
