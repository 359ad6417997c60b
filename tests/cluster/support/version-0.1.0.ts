import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The commit that version 0.1.0 was made from. */
const COMMIT = '0cbabbe';
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** What a test says, loudly, where the sources of 0.1.0 are not there. */
export const NO_HISTORY = `this checkout has no commit ${COMMIT} (a shallow clone, or no git): upgrades from 0.1.0 are NOT tested`;

/**
 * Builds 0.1.0 into a directory of its own; null where this checkout does not have its history. The caller
 * removes `dir`.
 */
export function buildOldVersion(): { dir: string; program: string } | null {
  try {
    execFileSync('git', ['cat-file', '-e', `${COMMIT}^{commit}`], { cwd: ROOT, stdio: 'ignore' });
  } catch {
    return null;
  }
  const dir = mkdtempSync(join(tmpdir(), 'pgtide-0.1.0-'));
  chmodSync(dir, 0o755);
  const archive = execFileSync('git', ['archive', COMMIT], { cwd: ROOT, maxBuffer: 256 << 20 });
  execFileSync('tar', ['-x', '-C', dir], { input: archive });
  symlinkSync(join(ROOT, 'node_modules'), join(dir, 'node_modules'));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: dir });
  return { dir, program: join(dir, 'dist', 'main.js') };
}
