import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { percentile } from '../src/local/histogram.ts';

export interface Target {
  readonly port: number;
  readonly database: string;
}

export interface Load {
  readonly script: string;
  readonly clients: number;
  readonly seconds: number;
}

export interface Measured {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const run = promisify(execFile);
const THREADS_MAX = 2;
/** Every so many transactions is written down. */
const SAMPLED = 0.1;

/** Runs `pgbench -M prepared`. Throws where there is none, or where a transaction failed. */
export async function pgbench({ port, database }: Target, { script, clients, seconds }: Load): Promise<Measured> {
  const dir = await mkdtemp(join(tmpdir(), 'pgtide-pgbench-'));
  try {
    await writeFile(join(dir, 'script.sql'), script);
    const options = ['-n', '-M', 'prepared', '-f', join(dir, 'script.sql')];
    const size = ['-c', clients, '-j', Math.min(clients, THREADS_MAX), '-T', seconds];
    const log = ['-l', '--log-prefix', join(dir, 'log'), '--sampling-rate', SAMPLED];
    const to = ['-h', '127.0.0.1', '-p', port, '-U', 'tide', database];
    const { stdout } = await run('pgbench', [...options, ...size, ...log, ...to].map(String));
    const [, failed] = /number of failed transactions: (\d+)/.exec(stdout) ?? [];
    const [, perSecond] = /tps = ([\d.]+) \(without/.exec(stdout) ?? [];
    if (perSecond === undefined || Number(failed ?? 0) > 0) throw new Error(`pgbench says\n${stdout}`);
    const tookMs = await durationsMs(dir);
    const [p50Ms, p99Ms] = [percentile(tookMs, 0.5), percentile(tookMs, 0.99)];
    return { perSecond: Number(perSecond), p50Ms, p99Ms };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function durationsMs(dir: string): Promise<number[]> {
  const logs = (await readdir(dir)).filter((name) => name.startsWith('log'));
  const texts = await Promise.all(logs.map((name) => readFile(join(dir, name), 'utf8')));
  // client, number, microseconds, …
  return texts.flatMap((text) => text.trim().split('\n')).map((line) => Number(line.split(' ')[2]) / 1000);
}
