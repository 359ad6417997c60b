import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { admin, quit } from '../api/http-client.ts';
import { must } from '../core/assert.ts';
import { tideError } from '../core/errors.ts';
import { endProcess, isAlive, postmasterProcessId, trySignal } from './processes.ts';

const START_MS = 90_000;
const STOP_MS = 30_000;
const POLL_MS = 100;

/** Where a node is, and what runs it. */
export interface NodePlace {
  readonly store: string;
  readonly host: string;
  /** HOST:PORT for SQL and the admin API. */
  readonly address: string;
  /** HOST:PORT that the cluster knows it by. */
  readonly advertised: string;
  readonly httpAddress: string;
  readonly postgresPort: number;
  /** A program and its arguments. */
  readonly command: readonly string[];
}

/** A process, and the last lines that it has printed. */
export interface Started {
  readonly child: ChildProcess;
  readonly output: readonly string[];
}

/** Whose the node is. */
export interface Owner {
  start(command: readonly string[]): Started;
  /** Ends the owner's sessions with the node. */
  leave(id: number): Promise<void>;
}

/** A node of a local cluster: a process, and its PostgreSQL beside it. */
export class LocalNode {
  readonly id: number;
  readonly #place: NodePlace;
  readonly #owner: Owner;
  #command: readonly string[];
  #child: ChildProcess | null;
  #output: readonly string[];

  constructor(id: number, place: NodePlace, started: Started, owner: Owner) {
    this.id = id;
    this.#place = place;
    this.#owner = owner;
    this.#command = place.command;
    this.#child = started.child;
    this.#output = started.output;
  }

  get store(): string {
    return this.#place.store;
  }

  get host(): string {
    return this.#place.host;
  }

  /** HOST:PORT for SQL and the admin API. */
  get address(): string {
    return this.#place.address;
  }

  get httpAddress(): string {
    return this.#place.httpAddress;
  }

  get postgresPort(): number {
    return this.#place.postgresPort;
  }

  get isRunning(): boolean {
    return this.processId !== null;
  }

  /** Of the node's own process, null when it does not run. */
  get processId(): number | null {
    const processId = this.#child?.pid;
    return processId !== undefined && isAlive(processId) ? processId : null;
  }

  get postgresProcessId(): number | null {
    return postmasterProcessId(join(this.store, 'pgdata'));
  }

  /** The last lines that the node's process has printed. */
  get output(): string {
    return this.#output.join('\n');
  }

  /**
   * Starts the node again on its store, when it has been stopped or killed, from now on as `program` where
   * that is given, and waits until it is live.
   */
  async restart(flags: readonly string[] = [], program?: string): Promise<void> {
    if (program !== undefined) this.#command = this.#command.with(this.#command.indexOf('start') - 1, program);
    const started = this.#owner.start([...this.#command, ...flags]);
    this.#child = started.child;
    this.#output = started.output;
    await untilLive(this.#place, started);
  }

  /** Ends the node in good order (SIGTERM) and its PostgreSQL with it. */
  async stop(): Promise<void> {
    await this.#ends('SIGTERM');
  }

  /** `tide quit`: the node ends itself. */
  async quit(): Promise<void> {
    await quit(this.address);
    await this.#ends('SIGCONT');
  }

  /** Signals the node's process only: its PostgreSQL lives on. Returns at once, SIGKILL after the death. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || !trySignal(child.pid, signal)) return;
    if (signal === 'SIGKILL' && child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  /** Signals the node's postmaster. */
  killPostgres(signal: NodeJS.Signals = 'SIGKILL'): void {
    const processId = this.postgresProcessId;
    if (processId !== null) trySignal(processId, signal);
  }

  async #ends(signal: NodeJS.Signals): Promise<void> {
    await this.#owner.leave(this.id);
    const processId = this.#child?.pid;
    if (processId === undefined) return;
    await endProcess(processId, [[signal, STOP_MS]]);
    if (isAlive(processId)) {
      throw tideError('INTERNAL', {
        why: `node ${this.id} still runs ${STOP_MS / 1000} s after it was told to stop:\n${this.output}`,
      });
    }
    this.#child = null;
  }
}

/** The number of a node that was started, once it is live; `onId` hears it as soon as it has one. */
export async function untilLive(
  { address, advertised }: Pick<NodePlace, 'address' | 'advertised'>,
  { child, output }: Started,
  onId: (id: number) => void = () => {},
): Promise<number> {
  const until = performance.now() + START_MS;
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) {
      const end = child.exitCode ?? child.signalCode;
      throw tideError('INTERNAL', { why: `the node at ${address} ended (${end}):\n${output.join('\n')}` });
    }
    const rows = await admin(address, { do: 'node-status' }, { timeoutMs: 5_000 }).catch(() => []);
    const row = rows.find((r) => r.address === advertised && r.state !== 'decommissioned');
    if (row) onId(row.id);
    if (row?.isLive && (await takesStatements(address))) return row.id;
    if (performance.now() > until) {
      throw tideError('INTERNAL', {
        why: `the node at ${address} is not live after ${START_MS / 1000} s:\n${output.join('\n')}`,
      });
    }
    await sleep(POLL_MS);
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
