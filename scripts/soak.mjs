// Builds the soak and runs it: npm run test:soak -- --minutes=M [--seed=N]
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

setUp();
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const built = spawnSync(process.execPath, [tsc, '-p', join(root, 'tests', 'soak', 'tsconfig.json')], {
  stdio: 'inherit',
});
if (built.status !== 0) process.exit(1);
const main = join(root, 'tmp', 'soak', 'build', 'tests', 'soak', 'main.js');
const soak = spawn(process.execPath, [main, ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' });
// Ctrl-C is the soak's: it ends with its proof.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => soak.kill('SIGTERM'));
soak.on('exit', (status) => process.exit(status ?? 1));
