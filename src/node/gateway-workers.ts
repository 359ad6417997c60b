import { type ChildProcess, fork } from 'node:child_process';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Outcome } from '../gateway/admin/reading.ts';
import type { FromWorker, SessionKind, ToWorker } from '../gateway/messages.ts';
import { ownEnvironment } from '../postgres/environment.ts';
import { type Topology, topologyChange, wholeTopology } from '../routing/topology.ts';
import { ClientSessions, type ClientSessionsOptions } from './client-sessions.ts';
import type { SqlAdmin } from './sql-admin.ts';

export interface GatewayWorkersOptions extends ClientSessionsOptions {
  /** Carries out what statements about the cluster ask for. */
  readonly sqlAdmin: Pick<SqlAdmin, 'look' | 'perform'>;
  /** How many processes serve sessions. */
  readonly workers: number;
  log(level: 'warn', message: string, facts: object): void;
}

/** A client that has said something, and waits for a worker. */
interface Client {
  readonly socket: Socket;
  readonly begun: Buffer;
  readonly handedOver: () => void;
}

const NOTHING: Outcome = { operation: null, lines: [] };
const SCRIPT = fileURLToPath(new URL('../gateway/worker.js', import.meta.url));
/** A worker that ends at once is not started again at once. */
const AGAIN_MS = 500;
/** A worker is busy for moments only. */
const ANSWER_MS = 300;
/** So much longer than its sessions may last does a worker take to end. */
const END_MS = 1_000;

/**
 * The processes that serve this node's sessions, each as many as the others. One that dies takes its sessions
 * with it and is started again; clients wait meanwhile, or go to the others.
 */
export class GatewayWorkers {
  readonly #options: GatewayWorkersOptions;
  readonly #admission: ClientSessions;
  readonly #workers = new Set<Worker>();
  readonly #ready: Worker[] = [];
  readonly #waiting = new Set<Client>();
  #ended = false;
  #topology: Topology | null = null;

  constructor(options: GatewayWorkersOptions) {
    this.#options = options;
    this.#admission = new ClientSessions(options);
  }

  start(): void {
    for (let i = 0; i < this.#options.workers; i++) this.#start();
  }

  /** What statements are routed by, from now on. */
  useTopology(topology: Topology): void {
    const before = this.#topology;
    this.#topology = topology;
    const change = before === null ? wholeTopology(topology) : topologyChange(before, topology);
    for (const worker of this.#ready) worker.say({ say: 'topology', change });
  }

  /**
   * Hands a client over, now or when a worker is ready; `handedOver` is called then. Its socket is paused,
   * and `begun` all that was read from it.
   */
  receive(socket: Socket, begun: Buffer, handedOver: () => void): void {
    const client = { socket, begun, handedOver };
    this.#waiting.add(client);
    socket.once('close', () => this.#waiting.delete(client));
    this.#handOver();
  }

  /**
   * The next error of the process is a deadlock's if it is a cancel's. False where no worker has a session of
   * the process, or says so in time.
   */
  async expectDeadlock(processId: number, detail: string): Promise<boolean> {
    const answers = await Promise.all(this.#ready.map((worker) => worker.expectDeadlock(processId, detail)));
    return answers.includes(true);
  }

  /** It was not cancelled. */
  forgetDeadlock(processId: number): void {
    for (const worker of this.#ready) worker.say({ say: 'forget-deadlock', processId });
  }

  /** Waits for sessions to end, for at most `graceMs`, then cuts them. */
  async close(graceMs: number): Promise<void> {
    this.#ended = true;
    for (const { socket } of this.#waiting) socket.destroy();
    await Promise.all([...this.#workers].map((worker) => worker.end(graceMs)));
  }

  #handOver(): void {
    for (const client of this.#waiting) {
      const worker = this.#ready.shift();
      if (worker === undefined) return;
      this.#ready.push(worker);
      this.#waiting.delete(client);
      client.handedOver();
      worker.take(client);
    }
  }

  #start(): void {
    if (this.#ended) return;
    const worker = new Worker(this.#options.workers, this.#admission, {
      ready: () => {
        this.#ready.push(worker);
        if (this.#topology) worker.say({ say: 'topology', change: wholeTopology(this.#topology) });
        this.#handOver();
      },
      cancel: (key) => {
        for (const other of this.#ready) if (other !== worker) other.say({ say: 'cancel', key });
      },
      look: (relations) => this.#options.sqlAdmin.look(relations),
      perform: (work) => this.#options.sqlAdmin.perform(work),
      ended: (facts) => {
        this.#workers.delete(worker);
        if (this.#ready.includes(worker)) this.#ready.splice(this.#ready.indexOf(worker), 1);
        if (this.#ended) return;
        this.#options.log('warn', 'a gateway worker has ended, its sessions with it, and is started again', facts);
        setTimeout(() => this.#start(), AGAIN_MS).unref();
      },
    });
    this.#workers.add(worker);
  }
}

interface WorkerEvents extends Pick<SqlAdmin, 'look' | 'perform'> {
  ready(): void;
  cancel(key: Buffer): void;
  ended(facts: object): void;
}

class Worker {
  readonly #process: ChildProcess;
  readonly #admission: ClientSessions;
  /** Those that were let in. */
  readonly #inside = new Map<number, SessionKind>();
  readonly #calls = new Map<number, (found: boolean) => void>();
  readonly #gone: Promise<void>;
  readonly #events: WorkerEvents;
  #lastCall = 0;

  constructor(workers: number, admission: ClientSessions, events: WorkerEvents) {
    const { ready, cancel, ended } = events;
    this.#admission = admission;
    this.#events = events;
    this.#process = fork(SCRIPT, [String(workers)], {
      env: ownEnvironment(),
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#process.on('message', (message: FromWorker) => {
      if (message.say === 'ready') ready();
      else if (message.say === 'cancel') cancel(Buffer.from(message.key));
      else this.#hear(message);
    });
    this.#gone = new Promise((resolve) => {
      const gone = (facts: object) => {
        for (const session of [...this.#inside.keys()]) this.#left(session);
        ended(facts);
        resolve();
      };
      this.#process.once('exit', (status, signal) => gone({ processId: this.#process.pid, status, signal }));
      // One that could not be started does not exit; and what could not be said is told by its end.
      this.#process.on('error', (error) => this.#process.pid === undefined && gone({ error: error.message }));
    });
  }

  take({ socket, begun }: Client): void {
    this.#process.send({ say: 'client', begun } satisfies ToWorker, socket, (error) => error && socket.destroy());
  }

  say(message: ToWorker): void {
    if (this.#process.connected) this.#process.send(message);
  }

  async expectDeadlock(processId: number, detail: string): Promise<boolean> {
    this.#lastCall += 1;
    const call = this.#lastCall;
    const answer = new Promise<boolean>((resolve) => this.#calls.set(call, resolve));
    this.say({ say: 'expect-deadlock', call, processId, detail });
    const found = await Promise.race([answer, sleep(ANSWER_MS, false, { ref: false })]);
    this.#calls.delete(call);
    return found;
  }

  async end(graceMs: number): Promise<void> {
    this.say({ say: 'end', graceMs });
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), graceMs + END_MS);
    await this.#gone;
    clearTimeout(timer);
  }

  #hear(message: Exclude<FromWorker, { say: 'ready' | 'cancel' }>): void {
    switch (message.say) {
      case 'expects':
        this.#calls.get(message.call)?.(message.found);
        return;
      case 'ended':
        this.#left(message.session);
        return;
      case 'look':
        this.#work(
          message.call,
          this.#events.look(message.relations).then(() => NOTHING),
        );
        return;
      case 'perform':
        this.#work(message.call, this.#events.perform(message.work));
        return;
      case 'asks': {
        const { session, who } = message;
        const verdict = this.#admission.admit(who);
        if ('to' in verdict) this.#inside.set(session, who.kind);
        this.say({ say: 'verdict', session, verdict });
      }
    }
  }

  #work(call: number, work: Promise<Outcome>): void {
    void work.then((outcome) => this.say({ say: 'worked', call, outcome }));
  }

  #left(session: number): void {
    const kind = this.#inside.get(session);
    if (kind !== undefined) this.#admission.left(kind);
    this.#inside.delete(session);
  }
}
