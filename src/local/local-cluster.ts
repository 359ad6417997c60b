import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import type { CallOptions } from '../api/client.ts';
import type { AdminRequest } from '../api/commands.ts';
import { admin, quit } from '../api/http-client.ts';
import type { OperationResult, Results } from '../api/results.ts';
import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { freePorts } from './free-ports.ts';
import { endProcess, isAlive, postmasterProcessId, removeCluster, trySignal } from './processes.ts';

/**
 * What was built, started without `bin/tide`, which builds anew when a source has changed: a checkout that is
 * edited during a run would mix builds in one cluster.
 */
const DIST = join(packageRoot(fileURLToPath(import.meta.url)), 'dist');
const MAIN = join(DIST, 'main.js');
const REAPER = join(DIST, 'local', 'reaper.js');

const LOOPBACK = '127.0.0.1';
const START_MS = 90_000;
const STOP_MS = 30_000;
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

export interface LocalNode {
  readonly id: number;
  readonly store: string;
  readonly host: string;
  /** HOST:PORT for SQL and the admin API. */
  readonly address: string;
  readonly httpAddress: string;
  readonly postgresPort: number;
}

interface Member extends LocalNode {
  /** What runs the node: a program and its arguments. */
  readonly command: readonly string[];
  /** HOST:PORT that the cluster knows it by. */
  readonly advertised: string;
  child: ChildProcess | null;
  output: string[];
  sql: pg.Pool | null;
  postgres: pg.Pool | null;
  manager: pg.Pool | null;
}

/**
 * A cluster on this machine, for the demo, tests and benchmarks: free loopback ports, stores in one temporary
 * directory, every node a child process of its own. `close()` ends and removes all of it; when the owner dies
 * first, the reaper does.
 */
export class LocalCluster {
  readonly dir: string;
  readonly #members = new Map<number, Member>();
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

  /** Nodes in the order of their start, stopped ones included. */
  get nodes(): LocalNode[] {
    return [...this.#members.values()];
  }

  node(id: number): LocalNode {
    return this.#member(id);
  }

  isRunning(id: number): boolean {
    const { child } = this.#member(id);
    return child?.pid !== undefined && isAlive(child.pid);
  }

  /** Pid of the node's own process, null when it does not run. */
  nodeProcessId(id: number): number | null {
    return this.isRunning(id) ? (this.#member(id).child?.pid ?? null) : null;
  }

  postgresProcessId(id: number): number | null {
    return postmasterProcessId(join(this.#member(id).store, 'pgdata'));
  }

  /** The last lines that the node's process has printed. */
  output(id: number): string {
    return this.#member(id).output.join('\n');
  }

  /** Starts a node (the first starts the cluster, every further one joins it) and waits until it is live. */
  async addNode(options: AddNodeOptions = {}): Promise<LocalNode> {
    const [listen, http, postgresPort] = options.ports ?? (await freePorts(3));
    const store = join(this.dir, `node-${++this.#started}`);
    const { host = LOOPBACK, advertiseHost = host, within = [], program = MAIN } = options;
    const address = `${host}:${listen}`;
    const advertised = `${advertiseHost}:${listen}`;
    const httpAddress = `${host}:${http}`;
    const peers = [...this.#members.values()].filter((m) => this.isRunning(m.id)).map((m) => m.address);
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
      ...(options.flags ?? []),
    ];
    const command = [...within, process.execPath, program, ...args];
    const starting = {
      store,
      host,
      address,
      advertised,
      httpAddress,
      postgresPort: must(postgresPort, 'port'),
      command,
    };
    const started = this.#spawn(command);
    // Known from the moment it has an id: it can be killed while it joins.
    const id = await this.#untilLive(starting, started, (given) => {
      if (this.#members.has(given)) return;
      this.#members.set(given, { ...starting, ...started, id: given, sql: null, postgres: null, manager: null });
    });
    return this.#member(id);
  }

  /**
   * Starts a stopped or killed node again on its store, from now on as `program` where that is given, and
   * waits until it is live.
   */
  async restartNode(id: number, flags: readonly string[] = [], program?: string): Promise<void> {
    const member = this.#member(id);
    if (program !== undefined) {
      const at = member.command.indexOf('start') - 1;
      Object.assign(member, { command: member.command.with(at, program) });
    }
    const started = this.#spawn([...member.command, ...flags]);
    Object.assign(member, started);
    await this.#untilLive(member, started);
  }

  /** `main.js` of this version. */
  static readonly program = MAIN;

  /** Ends a node in good order (SIGTERM) and its PostgreSQL with it. */
  async stopNode(id: number): Promise<void> {
    await this.#stopNode(this.#member(id), 'SIGTERM');
  }

  /** `tide quit`: the node ends itself. */
  async quitNode(id: number): Promise<void> {
    const member = this.#member(id);
    await quit(member.address);
    await this.#stopNode(member, null);
  }

  /** Signals the node's process only: its PostgreSQL lives on. Returns at once, SIGKILL after the death. */
  async killNode(id: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { child } = this.#member(id);
    if (child?.pid === undefined || !trySignal(child.pid, signal)) return;
    if (signal === 'SIGKILL' && child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  /** Signals the node's postmaster. */
  killPostgres(id: number, signal: NodeJS.Signals = 'SIGKILL'): void {
    const processId = this.postgresProcessId(id);
    if (processId !== null) trySignal(processId, signal);
  }

  /** Sends a command to a running node: the named one, or the first. */
  async admin<R extends AdminRequest>(
    command: R,
    options: CallOptions & { node?: number } = {},
  ): Promise<Results[R['do']]> {
    const id = options.node ?? this.nodes.find((n) => this.isRunning(n.id))?.id;
    if (id === undefined) throw tideError('INTERNAL', { why: 'no node of the local cluster runs any more' });
    return await admin(this.#member(id).address, command, options);
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
    const member = this.#member(id);
    member.sql ??= openPool(member.host, Number(member.address.split(':')[1]));
    return member.sql;
  }

  /** Connections straight to the node's PostgreSQL. */
  postgres(id: number): pg.Pool {
    const member = this.#member(id);
    member.postgres ??= openPool(member.host, member.postgresPort);
    return member.postgres;
  }

  /** The same as the superuser that pgtide works as: for what no client may look at, or do. */
  manager(id: number): pg.Pool {
    const member = this.#member(id);
    member.manager ??= openPool(member.host, member.postgresPort, 'tide_manager');
    return member.manager;
  }

  /** Ends every process of the cluster and removes its directory. May be called more than once. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#members.values()].map(closePools));
    await removeCluster(this.dir, [...this.#processIds]);
    this.#reaper.stdin?.end('done\n');
  }

  readonly #processIds = new Set<number>();

  #member(id: number): Member {
    return must(this.#members.get(id), `node ${id} of the local cluster`);
  }

  /**
   * In a process group of its own: Ctrl-C on a terminal ends the owner, which then ends the nodes in good
   * order.
   */
  #spawn([program = '', ...args]: readonly string[]): { child: ChildProcess; output: string[] } {
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

  async #untilLive(
    { address, advertised }: Pick<Member, 'address' | 'advertised'>,
    started: { child: ChildProcess; output: string[] },
    onId: (id: number) => void = () => {},
  ): Promise<number> {
    const until = performance.now() + START_MS;
    for (;;) {
      if (started.child.exitCode !== null || started.child.signalCode !== null) {
        const end = started.child.exitCode ?? started.child.signalCode;
        throw tideError('INTERNAL', { why: `the node at ${address} ended (${end}):\n${started.output.join('\n')}` });
      }
      const rows = await admin(address, { do: 'node-status' }, { timeoutMs: 5_000 }).catch(() => []);
      const row = rows.find((r) => r.address === advertised && r.state !== 'decommissioned');
      if (row) onId(row.id);
      if (row?.isLive && (await takesStatements(address))) return row.id;
      if (performance.now() > until) {
        throw tideError('INTERNAL', {
          why: `the node at ${address} is not live after ${START_MS / 1000} s:\n${started.output.join('\n')}`,
        });
      }
      await sleep(POLL_MS);
    }
  }

  async #stopNode(member: Member, signal: 'SIGTERM' | null): Promise<void> {
    await closePools(member);
    const processId = member.child?.pid;
    if (processId === undefined) return;
    const steps = [[signal ?? 'SIGCONT', STOP_MS]] as const;
    await endProcess(processId, steps);
    if (isAlive(processId)) {
      throw tideError('INTERNAL', {
        why: `node ${member.id} still runs ${STOP_MS / 1000} s after it was told to stop:\n${member.output.join('\n')}`,
      });
    }
    member.child = null;
  }
}

/** A node is of use when its listen port lets sessions in, which is a little after its first heartbeat. */
async function takesStatements(address: string): Promise<boolean> {
  const [host, port] = address.split(':');
  const client = new pg.Client({ host: must(host, 'host'), port: Number(port), user: 'tide', database: 'tide' });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

/** Tests run this file from `src`, the demo from `dist`, benchmarks from a build of their own. */
function packageRoot(file: string): string {
  const dir = dirname(file);
  return existsSync(join(dir, 'package.json')) ? dir : packageRoot(dir);
}

async function closePools(member: Member): Promise<void> {
  const pools = [member.sql, member.postgres, member.manager];
  member.sql = null;
  member.postgres = null;
  member.manager = null;
  await Promise.all(pools.map((pool) => pool?.end()));
}

function openPool(host: string, port: number, user = 'tide'): pg.Pool {
  const pool = new pg.Pool({
    host,
    port,
    user,
    database: 'tide',
    max: 10,
    connectionTimeoutMillis: 10_000,
    application_name: 'tide-local',
  });
  // A server that goes away ends connections, idle or in use: the next use says so or opens new ones.
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
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
