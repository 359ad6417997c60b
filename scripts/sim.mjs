// Builds the simulator and runs it: npm run sim -- --seed=N --hours=H [--seeds=K] [--trace]
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

setUp();
const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
const run = (...args) => spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
const built = run(tsc, '-p', join(root, 'tests', 'sim', 'tsconfig.json'));
process.exit(built || run(join(root, 'tmp', 'sim', 'build', 'tests', 'sim', 'main.js'), ...process.argv.slice(2)));
