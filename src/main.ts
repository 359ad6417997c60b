import { dirname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { readableProgram } from './root/program.ts';
import { chooseUser } from './root/user.ts';

/**
 * What root starts becomes somebody else (`node/daemon.ts`, `demo/demo.ts`): all of the program is loaded
 * from where he can read it.
 */
const BECOME_SOMEBODY_ELSE = ['start', 'demo'];

async function programFor(dist: string): Promise<string> {
  if (process.getuid?.() !== 0 || !BECOME_SOMEBODY_ELSE.includes(process.argv[2] ?? '')) return dist;
  try {
    const user = chooseUser();
    return user === null ? dist : await readableProgram(dist, user);
  } catch {
    // The command meets the same obstacle, and says so.
    return dist;
  }
}

const program = `${await programFor(dirname(fileURLToPath(import.meta.url)))}/tide.js`;
// Of this the copy that `--background` starts is made.
process.argv[1] = program.replace(/tide\.js$/, 'main.js');
await import(pathToFileURL(program).href);
