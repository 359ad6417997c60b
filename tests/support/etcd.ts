import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findEtcd } from '../../scripts/etcd.mjs';
import { must } from '../../src/core/assert.ts';
import { freePorts } from '../../src/local/free-ports.ts';

/** Null where there is no etcd on this machine, which has been said loudly. */
export const ETCD = findEtcd();

const READY_MS = 30_000;

interface Member {
  readonly name: string;
  readonly client: number;
  readonly peer: number;
  child: ChildProcess | null;
}

/** Where servers run: on loopback where absent. */
interface Place {
  readonly host: string;
  /** A command that runs their command line: a network namespace of their own. */
  readonly within: readonly string[];
}

const LOOPBACK: Place = { host: '127.0.0.1', within: [] };

/** etcd servers in a directory of their own; `close` ends them and removes it. */
export class EtcdCluster {
  readonly #dir: string;
  readonly #place: Place;
  readonly #members: readonly Member[];

  private constructor(dir: string, place: Place, members: readonly Member[]) {
    this.#dir = dir;
    this.#place = place;
    this.#members = members;
  }

  static async start(count: number, place = LOOPBACK): Promise<EtcdCluster> {
    const dir = await mkdtemp(join(tmpdir(), 'pgtide-etcd-'));
    const ports = await freePorts(2 * count);
    const members = Array.from({ length: count }, (_, i): Member => {
      return { name: `e${i}`, client: must(ports[2 * i], 'port'), peer: must(ports[2 * i + 1], 'port'), child: null };
    });
    const cluster = new EtcdCluster(dir, place, members);
    for (let i = 0; i < count; i++) cluster.startMember(i);
    await cluster.untilReady();
    return cluster;
  }

  get endpoints(): string[] {
    return this.#members.map((m) => `${this.#place.host}:${m.client}`);
  }

  url(prefix = ''): string {
    return `etcd://${this.endpoints.join(',')}${prefix}`;
  }

  /** Starts a server for the first time, or again on its data. */
  startMember(index: number): void {
    const member = this.#member(index);
    const { host, within } = this.#place;
    const client = `http://${host}:${member.client}`;
    const peer = `http://${host}:${member.peer}`;
    const [program = '', ...args] = [...within, must(ETCD, 'etcd')];
    member.child = spawn(
      program,
      [
        args,
        ['--name', member.name],
        ['--data-dir', join(this.#dir, member.name)],
        ['--listen-client-urls', client],
        ['--advertise-client-urls', client],
        ['--listen-peer-urls', peer],
        ['--initial-advertise-peer-urls', peer],
        ['--initial-cluster', this.#members.map((m) => `${m.name}=http://${host}:${m.peer}`).join(',')],
        ['--log-level', 'error'],
      ].flat(),
      { stdio: 'ignore' },
    );
  }

  /** SIGKILL returns after the death. */
  async signal(index: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { child } = this.#member(index);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    if (signal === 'SIGKILL') await gone;
  }

  runs(index: number): boolean {
    const { child } = this.#member(index);
    return child !== null && child.exitCode === null && child.signalCode === null;
  }

  /** Index of the server that leads now. */
  async leader(): Promise<number> {
    for (;;) {
      const ids = await Promise.all(this.endpoints.map(status));
      const led = ids.findIndex((s) => s !== null && s.leader !== '0' && s.leader === s.header.member_id);
      if (led >= 0) return led;
      await sleep(50);
    }
  }

  /** Every server answers, and one leads. */
  async untilReady(): Promise<void> {
    const untilMs = performance.now() + READY_MS;
    for (const endpoint of this.endpoints) {
      while (Number((await status(endpoint))?.leader ?? 0) === 0) {
        if (performance.now() > untilMs) throw new Error(`etcd at ${endpoint} does not answer`);
        await sleep(50);
      }
    }
  }

  async close(): Promise<void> {
    for (const [index] of this.#members.entries()) await this.signal(index);
    await rm(this.#dir, { recursive: true, force: true });
  }

  #member(index: number): Member {
    return must(this.#members[index], `etcd ${index}`);
  }
}

async function status(endpoint: string): Promise<{ leader: string; header: { member_id: string } } | null> {
  try {
    const answer = await fetch(`http://${endpoint}/v3/maintenance/status`, {
      method: 'POST',
      body: '{}',
      signal: AbortSignal.timeout(1_000),
    });
    return (await answer.json()) as { leader: string; header: { member_id: string } };
  } catch {
    return null;
  }
}
