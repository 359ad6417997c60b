import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import type { AddNodeOptions } from '../../../src/local/local-cluster.ts';
import { isAlive, trySignal } from '../../../src/local/processes.ts';

const run = promisify(execFile);

/**
 * Nodes in network namespaces of their own, with a router between them that can lose what one sends to
 * another: packets vanish, nobody is told, connections stay open. The test itself reaches every node always,
 * as a client on the node's side of a cut does.
 *
 *   node 1 (10.x.0.1) ──┐
 *   node 2 (10.x.0.2) ──┼── router ── this process (10.x.255.1)
 *   node 3 (10.x.0.3) ──┘
 */
export class Network {
  readonly #net: number;
  readonly #name: string;
  #nodes = 0;
  #cut = new Set<string>();

  private constructor(net: number) {
    this.#net = net;
    this.#name = `${PREFIX}${process.pid}`;
  }

  /** Null where there are no namespaces to be had; why not is in the second place. */
  static async create(): Promise<[Network, null] | [null, string]> {
    try {
      await sweep();
      const network = new Network(await freeNet());
      await network.#build();
      return [network, null];
    } catch (error) {
      return [null, (error as Error).message.trim()];
    }
  }

  get #router(): string {
    return `${this.#name}r`;
  }

  get #gateway(): string {
    return `10.${this.#net}.255.254`;
  }

  /** The address of the test itself, which relays may listen on: one for every node. */
  ownHost(node: number): string {
    return `10.${this.#net}.255.${node}`;
  }

  host(node: number): string {
    return `10.${this.#net}.0.${node}`;
  }

  async #build(): Promise<void> {
    const { host, link } = { host: `${this.#name}h`, link: `${this.#name}x` };
    await ip('netns', 'add', this.#router);
    await run('ip', ['netns', 'exec', this.#router, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
    await ip('link', 'add', host, 'type', 'veth', 'peer', 'name', link, 'netns', this.#router);
    for (let n = 1; n <= OWN_HOSTS; n++) await ip('addr', 'add', `${this.ownHost(n)}/32`, 'dev', host);
    await ip('link', 'set', host, 'up');
    await ip('-n', this.#router, 'addr', 'add', `${this.#gateway}/32`, 'dev', link);
    await ip('-n', this.#router, 'link', 'set', link, 'up');
    for (let n = 1; n <= OWN_HOSTS; n++)
      await ip('-n', this.#router, 'route', 'add', `${this.ownHost(n)}/32`, 'dev', link);
    await ip('route', 'add', this.#gateway, 'dev', host, 'src', this.ownHost(1));
    await ip('route', 'add', `10.${this.#net}.0.0/24`, 'via', this.#gateway, 'src', this.ownHost(1));
  }

  /** A place for the next node: what `LocalCluster.addNode` has to know. */
  async place(): Promise<Required<Pick<AddNodeOptions, 'host' | 'within'>>> {
    const node = ++this.#nodes;
    const space = `${this.#name}n${node}`;
    const there = `n${node}`;
    await ip('netns', 'add', space);
    await ip('link', 'add', 'eth0', 'netns', space, 'type', 'veth', 'peer', 'name', there, 'netns', this.#router);
    await ip('-n', space, 'link', 'set', 'lo', 'up');
    await ip('-n', space, 'addr', 'add', this.host(node), 'peer', this.#gateway, 'dev', 'eth0');
    await ip('-n', space, 'link', 'set', 'eth0', 'up');
    await ip('-n', space, 'route', 'add', 'default', 'via', this.#gateway);
    await ip('-n', this.#router, 'addr', 'add', `${this.#gateway}/32`, 'dev', there);
    await ip('-n', this.#router, 'link', 'set', there, 'up');
    await ip('-n', this.#router, 'route', 'add', this.host(node), 'dev', there);
    return { host: this.host(node), within: ['ip', 'netns', 'exec', space] };
  }

  /** What `from` sends to `to` is lost from now on; what comes back is not. */
  async lose(from: number, to: number): Promise<void> {
    await this.#rule('add', from, to);
    this.#cut.add(`${from} ${to}`);
  }

  /** Nothing goes between `node` and any of `others`. */
  async cut(node: number, others: readonly number[]): Promise<void> {
    for (const other of others) {
      await this.lose(node, other);
      await this.lose(other, node);
    }
  }

  async heal(): Promise<void> {
    for (const pair of this.#cut) {
      const [from, to] = pair.split(' ').map(Number);
      await this.#rule('del', from ?? 0, to ?? 0);
    }
    this.#cut = new Set();
  }

  async #rule(verb: 'add' | 'del', from: number, to: number): Promise<void> {
    const what = ['from', this.host(from), 'to', this.host(to), 'blackhole', 'pref', '100'];
    await ip('-n', this.#router, 'rule', verb, ...what);
  }

  /** Everything that runs on a node: its own process, its PostgreSQL and all sessions of that. */
  async signal(node: number, signal: NodeJS.Signals): Promise<number> {
    return (await this.#processes(node)).filter((pid) => trySignal(pid, signal)).length;
  }

  /**
   * SIGSTOP for everything that runs there, whatever is begun meanwhile too. Returns how many processes that
   * are.
   */
  async freeze(node: number): Promise<number> {
    for (;;) {
      const running = (await this.#processes(node)).filter(isRunning);
      if (running.length === 0) return (await this.#processes(node)).length;
      for (const pid of running) trySignal(pid, 'SIGSTOP');
    }
  }

  async #processes(node: number): Promise<number[]> {
    const { stdout } = await run('ip', ['netns', 'pids', `${this.#name}n${node}`]);
    return stdout.split('\n').filter(Boolean).map(Number);
  }

  async close(): Promise<void> {
    await removeOf(process.pid);
  }
}

const PREFIX = 'tide';
/** Addresses of this process: one for a relay in front of every node. */
const OWN_HOSTS = 8;

/** Neither stopped nor gone. */
function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^\) [TZX]/.test(stat.slice(stat.lastIndexOf(')')));
  } catch {
    return false;
  }
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args);
}

/** A part of 10/8 that no interface of this machine is in. */
async function freeNet(): Promise<number> {
  const used = Object.values(networkInterfaces()).flatMap((addresses) => addresses?.map((a) => a.address) ?? []);
  for (let tries = 0; tries < 200; tries++) {
    const net = 64 + Math.floor(Math.random() * 160);
    if (!used.some((address) => address.startsWith(`10.${net}.`))) return net;
  }
  throw new Error('no part of 10/8 is free');
}

async function spaces(): Promise<string[]> {
  return readdir('/run/netns').catch(() => []);
}

/** Those of tests that were killed. Their processes have been ended by the reaper. */
async function sweep(): Promise<void> {
  const owners = (await spaces()).map((name) => Number(/^tide(\d+)/.exec(name)?.[1]));
  for (const pid of new Set(owners)) if (Number.isInteger(pid) && !isAlive(pid)) await removeOf(pid);
}

async function removeOf(pid: number): Promise<void> {
  for (const name of (await spaces()).filter((n) => new RegExp(`^${PREFIX}${pid}[rn]`).test(n)))
    await ip('netns', 'del', name);
}
