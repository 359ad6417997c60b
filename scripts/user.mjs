// Root's nodes run as a user of their own: on a machine that has none, `npm start` and `npm test` make one,
// and say so.
import { spawnSync } from 'node:child_process';
import process from 'node:process';

const NAME = 'pgtide';
const WAYS = [
  ['useradd', '--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', NAME],
  // BusyBox.
  ['adduser', '-S', '-D', '-H', NAME],
];

export function ensureUser() {
  if (process.getuid?.() !== 0 || process.env.PGTIDE_USER) return;
  const exists = (name) => spawnSync('id', ['-u', name], { stdio: 'ignore' }).status === 0;
  if (exists(NAME) || exists('postgres')) return;
  // Where none of them works, what is started next says what is missing.
  const way = WAYS.find(([command, ...args]) => spawnSync(command, args, { stdio: 'ignore' }).status === 0);
  if (way) process.stderr.write(`pgtide: made the system user '${NAME}', as whom nodes run (${way.join(' ')})\n`);
}
