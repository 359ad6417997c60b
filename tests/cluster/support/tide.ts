import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { LocalCluster } from '../../support/cluster.ts';

const MAIN = fileURLToPath(new URL('../../../dist/main.js', import.meta.url));

export interface Ran {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a command line against a node, as a shell would. */
export function tide(cluster: LocalCluster, node: number, ...args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    const env = { ...process.env, TIDE_HOST: cluster.node(node).address };
    execFile(process.execPath, [MAIN, ...args], { env, timeout: 120_000 }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ status, stdout, stderr });
    });
  });
}

/** Starts a command line that somebody is going to interrupt. */
export function startTide(cluster: LocalCluster, node: number, ...args: string[]): ChildProcess {
  const env = { ...process.env, TIDE_HOST: cluster.node(node).address };
  return spawn(process.execPath, [MAIN, ...args], { env, stdio: 'ignore' });
}
