// Builds the crash matrix and runs it: npm run test:crash [-- --kind=K --step=S --moment=M --victim=V
// --minutes=N --skip=N]
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

setUp();
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const built = spawnSync(process.execPath, [tsc, '-p', join(root, 'tests', 'crash', 'tsconfig.json')], {
  stdio: 'inherit',
});
if (built.status !== 0) process.exit(1);
const main = join(root, 'tmp', 'crash', 'build', 'tests', 'crash', 'main.js');
const crash = spawn(process.execPath, [main, ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' });
// Ctrl-C is the matrix's: it ends with its table.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => crash.kill('SIGTERM'));
crash.on('exit', (status) => process.exit(status ?? 1));
