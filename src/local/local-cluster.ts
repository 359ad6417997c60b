import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import type { CallOptions } from '../api/client.ts';
import type { AdminRequest } from '../api/commands.ts';
import { admin } from '../api/http-client.ts';
import type { OperationResult, Results } from '../api/results.ts';
import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { freePorts } from './free-ports.ts';
import { LocalNode, type Owner, type Started, untilLive } from './local-node.ts';
import { NodePools } from './pools.ts';
import { removeCluster } from './processes.ts';

/**
 * What was built, started without `bin/tide`, which builds anew when a source has changed: a checkout that is
 * edited during a run would mix builds in one cluster.
 */
const DIST = join(packageRoot(fileURLToPath(import.meta.url)), 'dist');
const MAIN = join(DIST, 'main.js');
const REAPER = join(DIST, 'local', 'reaper.js');

const LOOPBACK = '127.0.0.1';
const POLL_MS = 100;
const OUTPUT_LINES = 40;
/** An operation goes on while the node that is asked about it restarts. */
const SILENCE_MS = 60_000;

export interface AddNodeOptions {
  /** As for `tide start --locality`. */
  locality?: string;
  /** Further flags of `tide start`. */
  flags?: readonly string[];
  /** Where it listens; loopback where absent. */
  host?: string;
  /** What others are told, where that is not where it listens. The ports are the same. */
  advertiseHost?: string;
  /** For SQL and the admin API, for HTTP, for PostgreSQL; free ones of loopback where absent. */
  ports?: readonly number[];
  /** A command that runs the node's command line: a network namespace of its own. */
  within?: readonly string[];
  /** `main.js` of another version; this one's where absent. */
  program?: string;
}

/**
 * A cluster on this machine, for the demo, tests and benchmarks: free loopback ports, stores in one temporary
 * directory, every node a child process of its own. `close()` ends and removes all of it; when the owner dies
 * first, the reaper does.
 */
export class LocalCluster {
  readonly dir: string;
  readonly #nodes = new Map<number, LocalNode>();
  readonly #pools = new Map<number, NodePools>();
  readonly #processIds = new Set<number>();
  readonly #reaper: ChildProcess;
  #started = 0;
  #closing: Promise<void> | null = null;

  private constructor(dir: string, reaper: ChildProcess) {
    this.dir = dir;
    this.#reaper = reaper;
  }

  static async create(): Promise<LocalCluster> {
    const dir = await mkdtemp(join(tmpdir(), 'pgtide-'));
    // Run by root, PostgreSQL is somebody else and has to get through.
    await chmod(dir, 0o755);
    const reaper = spawn(process.execPath, [REAPER, dir], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    reaper.unref();
    // A reaper that is gone already has nothing left to do: writing to it then is no failure.
    reaper.stdin?.on('error', () => {});
    return new LocalCluster(dir, reaper);
  }

  /** `main.js` of this version. */
  static readonly program = MAIN;

  /** Nodes in the order of their start, stopped ones included. */
  get nodes(): LocalNode[] {
    return [...this.#nodes.values()];
  }

  node(id: number): LocalNode {
    return must(this.#nodes.get(id), `node ${id} of the local cluster`);
  }

  /** Starts a node (the first starts the cluster, every further one joins it) and waits until it is live. */
  async addNode(options: AddNodeOptions = {}): Promise<LocalNode> {
    const [listen, http, postgresPort] = options.ports ?? (await freePorts(3));
    const store = join(this.dir, `node-${++this.#started}`);
    const { host = LOOPBACK, advertiseHost = host, within = [], program = MAIN } = options;
    const address = `${host}:${listen}`;
    const advertised = `${advertiseHost}:${listen}`;
    const httpAddress = `${host}:${http}`;
    const peers = this.nodes.filter((n) => n.isRunning).map((n) => n.address);
    const args = [
      'start',
      `--store=${store}`,
      `--listen-addr=${address}`,
      `--http-addr=${httpAddress}`,
      ...(advertised === address ? [] : [`--advertise-addr=${advertised}`]),
      '--insecure',
      `--postgres-port=${postgresPort}`,
      ...(peers.length > 0 ? [`--join=${peers.join(',')}`] : []),
      ...(options.locality === undefined ? [] : [`--locality=${options.locality}`]),
      // The nodes share one machine; and earlier versions have no such flag.
      ...(program === MAIN ? ['--workers=1'] : []),
      ...(options.flags ?? []),
    ];
    const command = [...within, process.execPath, program, ...args];
    const place = {
      store,
      host,
      address,
      advertised,
      httpAddress,
      postgresPort: must(postgresPort, 'port'),
      command,
    };
    const started = this.#start(command);
    // Known from the moment it has an id: it can be killed while it joins.
    const id = await untilLive(place, started, (given) => {
      if (!this.#nodes.has(given)) this.#nodes.set(given, new LocalNode(given, place, started, this.#owner));
    });
    return this.node(id);
  }

  /** Sends a command to a running node: the named one, or the first. */
  async admin<R extends AdminRequest>(
    command: R,
    options: CallOptions & { node?: number } = {},
  ): Promise<Results[R['do']]> {
    const id = options.node ?? this.nodes.find((n) => n.isRunning)?.id;
    if (id === undefined) throw tideError('INTERNAL', { why: 'no node of the local cluster runs any more' });
    return await admin(this.node(id).address, command, options);
  }

  /**
   * Polls an operation until it is done; throws when it fails, is cancelled, or is still running after
   * `timeoutMs`.
   */
  async waitForOperation(
    id: number,
    onProgress: (operation: OperationResult) => void = () => {},
    timeoutMs = 180_000,
  ): Promise<OperationResult> {
    const until = performance.now() + timeoutMs;
    let answered = performance.now();
    for (;;) {
      const operation = await this.admin({ do: 'op-show', id }).catch((error: unknown) => {
        const passing = error instanceof TideError && error.retry === 'later' && this.#closing === null;
        if (!passing || performance.now() - answered > SILENCE_MS) throw error;
        return null;
      });
      if (operation) {
        answered = performance.now();
        onProgress(operation);
        if (operation.status === 'done') return operation;
        if (operation.status === 'failed' || operation.status === 'cancelled') throw operationFailure(operation);
        if (performance.now() > until) throw operationTimeout(operation, timeoutMs);
      }
      await sleep(POLL_MS);
    }
  }

  /** Connections through the node's listen port. */
  sql(id: number): pg.Pool {
    return this.#poolsOf(id).sql;
  }

  /** Connections straight to the node's PostgreSQL. */
  postgres(id: number): pg.Pool {
    return this.#poolsOf(id).postgres;
  }

  /** The same as the superuser that pgtide works as: for what no client may look at, or do. */
  manager(id: number): pg.Pool {
    return this.#poolsOf(id).manager;
  }

  #poolsOf(id: number): NodePools {
    const pools = this.#pools.get(id) ?? new NodePools(this.node(id));
    this.#pools.set(id, pools);
    return pools;
  }

  /** Ends every process of the cluster and removes its directory. May be called more than once. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pools) => pools.close()));
    await removeCluster(this.dir, [...this.#processIds]);
    this.#reaper.stdin?.end('done\n');
  }

  readonly #owner: Owner = {
    start: (command) => this.#start(command),
    leave: async (id) => this.#pools.get(id)?.close(),
  };

  /**
   * In a process group of its own: Ctrl-C on a terminal ends the owner, which then ends the nodes in good
   * order.
   */
  #start([program = '', ...args]: readonly string[]): Started {
    if (this.#closing) throw tideError('INTERNAL', { why: 'the local cluster is being closed' });
    const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const processId = must(child.pid, 'process id of the started node');
    this.#processIds.add(processId);
    this.#reaper.stdin?.write(`+${processId}\n`);
    child.once('exit', () => {
      this.#processIds.delete(processId);
      this.#reaper.stdin?.write(`-${processId}\n`);
    });
    const output: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output.push(...text.split('\n').filter((line) => line.trim() !== ''));
        output.splice(0, output.length - OUTPUT_LINES);
      });
    }
    return { child, output };
  }
}

/** Tests run this file from `src`, the demo from `dist`, benchmarks from a build of their own. */
function packageRoot(file: string): string {
  const dir = dirname(file);
  return existsSync(join(dir, 'package.json')) ? dir : packageRoot(dir);
}

function operationFailure(operation: OperationResult): TideError {
  const why = operation.error ? `${operation.error.message} (${operation.error.hint})` : 'no reason given';
  return tideError('INTERNAL', {
    why: `operation ${operation.id} (${operation.kind} ${operation.subject}) ${operation.status}: ${why}`,
  });
}

function operationTimeout(operation: OperationResult, timeoutMs: number): TideError {
  const waits = operation.waitsFor ? `; it waits for: ${operation.waitsFor.text}` : '';
  const where = `at step ${operation.step ?? '-'}, ${operation.percent} %${waits}`;
  return tideError('INTERNAL', {
    why: `operation ${operation.id} (${operation.kind} ${operation.subject}) is not done after ${timeoutMs / 1000} s: ${where}`,
  });
}

/** The sentence to show for anything that went wrong in the harness. */
export function failureText(error: unknown): string {
  return error instanceof TideError ? `${error.message}\nhint: ${error.hint}` : messageOf(error);
}
