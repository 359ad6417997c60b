import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { must } from '../../../src/core/assert.ts';
import { endProcess, isAlive, postmasterProcessId, removeCluster } from '../../../src/local/processes.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pgtide-processes-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A child that ignores the polite signals, once it says that it does. */
async function startStubborn(cwd: string): Promise<number> {
  const script =
    "process.on('SIGTERM', () => {}).on('SIGINT', () => {}); console.log('ready'); setInterval(() => {}, 1000)";
  const child = spawn(process.execPath, ['-e', script], { cwd, detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return must(child.pid, 'pid');
}

describe('the end of processes', () => {
  test('goes on to the next signal only when the last one had no effect', async () => {
    const pid = await startStubborn(dir);
    await endProcess(pid, [['SIGTERM', 100]]);
    expect(isAlive(pid)).toBe(true);
    await endProcess(pid, [
      ['SIGTERM', 50],
      ['SIGKILL', 5_000],
    ]);
    expect(isAlive(pid)).toBe(false);
  });

  test('a pid file names a postmaster only where the process works in that directory', async () => {
    const dataDir = join(dir, 'node-1', 'pgdata');
    mkdirSync(dataDir, { recursive: true });
    expect(postmasterProcessId(dataDir)).toBeNull();
    writeFileSync(join(dataDir, 'postmaster.pid'), `${process.pid}\n${dataDir}\n`);
    expect(postmasterProcessId(dataDir)).toBeNull();
    const pid = await startStubborn(dataDir);
    writeFileSync(join(dataDir, 'postmaster.pid'), `${pid}\n${dataDir}\n`);
    expect(postmasterProcessId(dataDir)).toBe(pid);
    await endProcess(pid, [['SIGKILL', 5_000]]);
    expect(postmasterProcessId(dataDir)).toBeNull();
  });

  test('removing a cluster ends its postmasters and leaves no directory', async () => {
    const dataDir = join(dir, 'node-1', 'pgdata');
    mkdirSync(dataDir, { recursive: true });
    const pid = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], {
      cwd: dataDir,
      detached: true,
      stdio: 'ignore',
    }).pid;
    writeFileSync(join(dataDir, 'postmaster.pid'), `${pid}\n${dataDir}\n`);
    await removeCluster(dir, []);
    expect([isAlive(must(pid, 'pid')), existsSync(dir)]).toEqual([false, false]);
  });
});
