// `npm test`: set up, check types and style, run the tests. Arguments go to vitest. The last line counts the
// tests.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findEtcd } from './etcd.mjs';
import { findFaketime } from './faketime.mjs';
import { setUp } from './setup.mjs';
import { ensureUser } from './user.mjs';

const cwd = fileURLToPath(new URL('..', import.meta.url));
const run = (command, args) => spawnSync(command, args, { cwd, stdio: 'inherit' }).status ?? 1;

setUp();
ensureUser();
// Before the tests that need them look for them, each for itself.
findEtcd();
findFaketime();
const checked = run('npm', ['run', '--silent', 'check']);

const scratch = mkdtempSync(join(tmpdir(), 'pgtide-test-'));
const report = join(scratch, 'vitest.json');
const vitest = join(cwd, 'node_modules', 'vitest', 'vitest.mjs');
const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
const tested = run(process.execPath, [vitest, 'run', ...reporters, ...process.argv.slice(2)]);

const { passed, failed, skipped } = counts();
rmSync(scratch, { recursive: true, force: true });
if (checked !== 0) process.stderr.write('\nnpm run check failed: see above\n');
process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped} skipped\n`);
process.exit(tested || checked);

function counts() {
  try {
    const { testResults, ...sums } = JSON.parse(readFileSync(report, 'utf8'));
    // A file that does not even load has no tests that could fail.
    const broken = testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
    const skipped = sums.numPendingTests + sums.numTodoTests;
    return { passed: sums.numPassedTests, failed: sums.numFailedTests + broken.length, skipped };
  } catch {
    process.stderr.write('vitest ended without a report\n');
    return { passed: 0, failed: 0, skipped: 0 };
  }
}
