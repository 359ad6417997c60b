import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { must } from '../core/assert.ts';
import { tideError } from '../core/errors.ts';
import type { PostgresBinaries } from './binaries.ts';
import { CONFIG_FILE, type PostgresSettings, renderConfig, socketPath } from './config.ts';
import { postgresEnvironment } from './environment.ts';
import { logEnd, logTail, portWasTaken, startFailure, storeError } from './failures.ts';
import { addManagerRole, enforceFence, isFenceUp, lowerFence, raiseFence, untilLetIn } from './fence.ts';
import { findPostmaster, isAlive, type Probe, parsePostmasterFile, postmasterFile, probe } from './postmaster.ts';

export interface PostgresServerOptions {
  readonly binaries: PostgresBinaries;
  readonly dataDir: string;
  readonly logFile: string;
  readonly settings: PostgresSettings;
  /** Told every few seconds what a slow start waits for. */
  readonly onWait?: (text: string) => void;
}

export interface StartReport {
  /** `adopted`: the server was already running, left behind by a node process that died. */
  readonly how: 'started' | 'adopted';
  readonly processId: number;
  readonly tookMs: number;
}

export interface ServerExit {
  readonly processId: number;
  /** `status 1`, `signal SIGKILL`, or `gone` for an adopted server, whose status nobody gets. */
  readonly exit: string;
  readonly logTail: string;
}

/** `fast` sends clients away, `immediate` does not even write a checkpoint (crash recovery follows). */
export type StopMode = 'fast' | 'immediate';

const STOP_SIGNALS = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

/** A server without a pid file after this time is not going to make one. */
const FIRST_SIGN_MS = 60_000;
/** Crash recovery reads the WAL since the last checkpoint; it goes on after we have stopped waiting. */
const RECOVERY_MS = 600_000;
const WAIT_REPORT_MS = 5_000;
const POLL_MS = 25;
/** How often an adopted server, which is not our child, is looked after. */
const ADOPTED_POLL_MS = 500;
const LOG_KEEP_BYTES = 64 << 20;
/** How long the fence may take to be up; the manager repeats its wish with every beat. */
const FENCE_MS = 10_000;
/** The postmaster reads its files anew within moments of the signal. */
const LET_IN_MS = 1_000;

/**
 * One PostgreSQL server. It runs in a session of its own, so that neither Ctrl-C nor the death of the node
 * process ends it: clients and replication go on, and the next node process adopts it.
 */
export class PostgresServer {
  readonly options: PostgresServerOptions;
  readonly #exitListeners = new Set<(exit: ServerExit) => void>();
  #running: { processId: number; gone: Promise<string> } | null = null;
  #stopping = false;
  #fenced = true;
  #closing = false;

  constructor(options: PostgresServerOptions) {
    this.options = options;
  }

  get processId(): number | null {
    return this.#running?.processId ?? null;
  }

  get port(): number {
    return this.options.settings.port;
  }

  /** Where clients on this machine connect fastest: the Unix socket where there is one, else loopback. */
  get localEndpoint(): { path: string } | { host: string; port: number } {
    const { socketDir, port } = this.options.settings;
    return socketDir === null ? { host: '127.0.0.1', port } : { path: socketPath(socketDir, port) };
  }

  isRunning(): boolean {
    return this.#running !== null;
  }

  /**
   * False from the moment a fence is wanted: whoever passes clients on lets no more in while those inside are
   * being ended.
   */
  get letsIn(): boolean {
    return !this.fenced && !this.#closing;
  }

  /**
   * True while no client and no replication gets in: it is fenced, or does not run (and will be fenced when
   * it starts).
   */
  get fenced(): boolean {
    return this.#fenced || !this.isRunning();
  }

  /**
   * Refuses clients and replication, and ends the sessions there are. Throws FENCE_NOT_UP; nobody new is let
   * in then either.
   */
  async fence(): Promise<void> {
    this.#closing = true;
    await raiseFence(this.options.dataDir);
    if (this.processId !== null) await enforceFence(this.processId, this.port, FENCE_MS);
    this.#fenced = true;
  }

  /**
   * Lets everybody in, where the server is still the one with this process id: the permission was given to no
   * other.
   */
  async unfence(processId: number): Promise<void> {
    if (this.processId !== processId) return;
    // From here on it may let somebody in; those of the listen port come when it surely does.
    this.#closing = true;
    this.#fenced = false;
    try {
      await lowerFence(this.options.dataDir);
    } catch (error) {
      this.#fenced = true;
      throw error;
    }
    this.#reload();
    await untilLetIn(this.port, LET_IN_MS);
    if (this.processId === processId) this.#closing = false;
  }

  /** Ends it at once, as a crash would: it starts again behind its fence, when there is room for one. */
  crash(): void {
    if (this.processId !== null) signalIfAlive(this.processId, STOP_SIGNALS.immediate);
  }

  /** Whether there is a fence, whoever raised it, and whether or not the server has taken it up. */
  isFenceRaised(): Promise<boolean> {
    return isFenceUp(this.options.dataDir);
  }

  /** The fence as the last node process left it: what it wrote may not have been taken up. */
  async #adoptFence(): Promise<void> {
    this.#fenced = await isFenceUp(this.options.dataDir);
    if (this.#fenced) await this.fence();
    else this.#reload();
  }

  #reload(): void {
    if (this.processId !== null) signalIfAlive(this.processId, 'SIGHUP');
  }

  /**
   * Calls `listener` whenever the server ends without `stop` having been called. Gives back what unsubscribes
   * it.
   */
  onExit(listener: (exit: ServerExit) => void): () => void {
    this.#exitListeners.add(listener);
    return () => this.#exitListeners.delete(listener);
  }

  /**
   * Adopts the running server of this data directory or starts one, and returns when it accepts connections.
   * One that runs with other settings (or an older minor version) than wanted is restarted. Throws
   * PORT_IN_USE, STORE_FULL, STORE_READ_ONLY, SERVER_OF_ANOTHER_USER, POSTGRES_CONFIG_BAD,
   * POSTGRES_START_FAILED, POSTGRES_START_TIMEOUT.
   */
  async start(): Promise<StartReport> {
    const begunMs = performance.now();
    const report = (how: StartReport['how']): StartReport => {
      const processId = must(this.processId, 'process id of the started server');
      return { how, processId, tookMs: Math.round(performance.now() - begunMs) };
    };
    if (this.isRunning()) return report('adopted');
    const found = await findPostmaster(this.options.dataDir);
    if (found !== null) {
      requireOurs(found.processId);
      this.#watch(found.processId, pollUntilGone(found.processId));
      const outcome = await this.#waitReady(found.processId, 0);
      if (outcome === 'ready' && (await this.#isAsWanted())) {
        await this.#adoptFence();
        return report('adopted');
      }
      if (outcome === 'ready') await this.stop('fast');
    }
    await this.#spawn();
    return report('started');
  }

  /**
   * Ends the server and returns when it is gone. One that does not obey within `timeoutMs` is stopped by
   * `immediate`, then killed.
   */
  async stop(mode: StopMode = 'fast', timeoutMs = 60_000): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#stopping = true;
    try {
      const attempts = [
        { signal: STOP_SIGNALS[mode], waitMs: timeoutMs },
        { signal: STOP_SIGNALS.immediate, waitMs: 10_000 },
        { signal: 'SIGKILL', waitMs: 10_000 },
      ] as const;
      for (const { signal, waitMs } of attempts) {
        signalIfAlive(running.processId, signal);
        if (await endsWithin(running.gone, waitMs)) return;
      }
    } finally {
      this.#stopping = false;
    }
  }

  async #isAsWanted(): Promise<boolean> {
    const { dataDir, settings, binaries } = this.options;
    const written = await readFile(join(dataDir, CONFIG_FILE), 'utf8').catch(() => '');
    if (written !== renderConfig(settings)) return false;
    const answer = await this.#probe(settings.port);
    return answer.kind === 'ready' && answer.version === binaries.version;
  }

  async #spawn(): Promise<void> {
    const { dataDir, logFile, binaries } = this.options;
    await this.#prepareFiles();
    const log = await open(logFile, 'a').catch((error) => Promise.reject(storeError(logFile, error)));
    const from = await logEnd(logFile);
    try {
      const child = spawn(binaries.postgres, ['-D', dataDir], {
        cwd: '/',
        env: postgresEnvironment(),
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
      });
      await once(child, 'spawn').catch((error: Error) => {
        throw tideError('POSTGRES_UNUSABLE', { where: binaries.binDir, why: error.message }, error);
      });
      child.unref();
      const processId = must(child.pid, 'process id of the spawned server');
      const gone = childExit(child);
      this.#watch(processId, gone);
      if ((await this.#waitReady(processId, from)) === 'gone') throw await this.#failure(await gone, from);
      if (portWasTaken(await logTail(logFile, from))) throw await this.#portTaken();
    } finally {
      await log.close();
    }
  }

  /**
   * Only called while no server runs: what `pgtide.conf` says is then always what a running server was
   * started with.
   */
  async #prepareFiles(): Promise<void> {
    const { dataDir, logFile, settings } = this.options;
    const config = join(dataDir, CONFIG_FILE);
    try {
      // Its process id may belong to a process of the same user by now, which PostgreSQL would take for a
      // running server.
      await rm(postmasterFile(dataDir), { force: true });
      // Nor one that was killed a moment ago, and that PostgreSQL takes for alive until somebody has
      // collected it.
      if (settings.socketDir !== null)
        await rm(`${socketPath(settings.socketDir, settings.port)}.lock`, { force: true });
      await writeFile(config, renderConfig(settings));
      // Somebody else may lead by now what this server led when it ended: it serves nobody before the manager
      // has said so.
      await raiseFence(dataDir);
      this.#fenced = true;
      if (settings.socketDir !== null) await mkdir(settings.socketDir, { recursive: true, mode: 0o700 });
      await mkdir(dirname(logFile), { recursive: true });
      if ((await logEnd(logFile)) > LOG_KEEP_BYTES) await rename(logFile, `${logFile}.1`);
    } catch (error) {
      throw storeError(dataDir, error);
    }
  }

  /**
   * Follows the status in `postmaster.pid`, and connects only when that says ready: connecting earlier would
   * write a line to the log each time and push out those that matter.
   */
  async #waitReady(processId: number, logFrom: number): Promise<'ready' | 'gone'> {
    const { dataDir, logFile, onWait } = this.options;
    const begunMs = performance.now();
    let reportedMs = begunMs;
    while (this.processId === processId) {
      const file = parsePostmasterFile(await readFile(postmasterFile(dataDir), 'utf8').catch(() => ''));
      const isOwn = file?.processId === processId;
      let waitsFor = isOwn
        ? `the server (pid ${processId}), which is ${file.status || 'starting'}`
        : `the server (pid ${processId}) to begin`;
      if (isOwn && file.status === 'ready') {
        const answer = await this.#probe(file.port);
        if (answer.kind === 'ready') return 'ready';
        if (answer.kind === 'foreign') throw await this.#portTaken();
        waitsFor = `the server (pid ${processId}) to accept connections: ${answer.why}`;
      }
      const nowMs = performance.now();
      if (nowMs - begunMs > (isOwn ? RECOVERY_MS : FIRST_SIGN_MS)) {
        const details = { waitedMs: nowMs - begunMs, waitsFor, logFile, logTail: await logTail(logFile, logFrom) };
        throw tideError('POSTGRES_START_TIMEOUT', details);
      }
      if (nowMs - reportedMs > WAIT_REPORT_MS) {
        reportedMs = nowMs;
        onWait?.(`waiting for ${waitsFor}`);
      }
      await sleep(POLL_MS);
    }
    return 'gone';
  }

  async #probe(port: number): Promise<Probe> {
    const { dataDir, settings } = this.options;
    const answer = await probe(port, dataDir);
    // A store from before the manager had a role of its own looks like somebody else's server.
    const isOlder = answer.kind === 'foreign' && settings.socketDir !== null;
    return isOlder && (await addManagerRole(settings.socketDir, port)) ? probe(port, dataDir) : answer;
  }

  /**
   * PostgreSQL starts as soon as one of its addresses is free; on another one, somebody else has the port and
   * would get our clients.
   */
  async #portTaken(): Promise<Error> {
    await this.stop('fast');
    return tideError('PORT_IN_USE', { flag: '--postgres-port', address: this.#address() });
  }

  #address(): string {
    return `${this.options.settings.listenHosts[0] ?? '127.0.0.1'}:${this.port}`;
  }

  async #failure(exit: string, logFrom: number): Promise<Error> {
    const { dataDir, logFile } = this.options;
    return startFailure({ dataDir, address: this.#address(), exit, logFile, logTail: await logTail(logFile, logFrom) });
  }

  #watch(processId: number, gone: Promise<string>): void {
    const ended = gone.then(async (exit) => {
      const isExpected = this.#stopping;
      this.#running = null;
      if (isExpected || this.#exitListeners.size === 0) return exit;
      const tail = await logTail(this.options.logFile);
      for (const listener of this.#exitListeners) listener({ processId, exit, logTail: tail });
      return exit;
    });
    this.#running = { processId, gone: ended };
  }
}

function childExit(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('exit', (status, signal) => resolve(signal === null ? `status ${status}` : `signal ${signal}`));
  });
}

async function pollUntilGone(processId: number): Promise<string> {
  while (isAlive(processId)) await sleep(ADOPTED_POLL_MS, undefined, { ref: false });
  return 'gone';
}

/**
 * A data directory may have been given to another user while its server ran. Throws SERVER_OF_ANOTHER_USER.
 */
function requireOurs(processId: number): void {
  try {
    process.kill(processId, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPERM')
      throw tideError('SERVER_OF_ANOTHER_USER', { pid: processId, user: userInfo().username });
  }
}

function signalIfAlive(processId: number, signal: NodeJS.Signals): void {
  try {
    process.kill(processId, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Keeps the process alive while it waits: the timer is referenced. */
async function endsWithin(gone: Promise<string>, waitMs: number): Promise<boolean> {
  const timer = new AbortController();
  const late = sleep(waitMs, false, { signal: timer.signal }).catch(() => false);
  const inTime = await Promise.race([gone.then(() => true), late]);
  timer.abort();
  return inTime;
}
