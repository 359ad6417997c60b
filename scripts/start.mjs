// `npm start`: everything that a fresh clone needs, then the demo with the arguments passed on.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { setUp } from './setup.mjs';
import { ensureUser } from './user.mjs';

setUp();
ensureUser();
const tide = fileURLToPath(new URL('../bin/tide', import.meta.url));
const demo = spawn(process.execPath, [tide, 'demo', ...process.argv.slice(2)], { stdio: 'inherit' });
// A terminal sends Ctrl-C to both: the demo cleans up, and this process waits for it.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => demo.kill('SIGTERM'));
demo.on('exit', (status) => process.exit(status ?? 1));
