import type { CallName, Calls } from '../api/calls.ts';
import { adminCommand, type ManagerCommand } from '../api/commands.ts';
import { ask } from '../api/http-client.ts';
import { beatReport, joinRequest, requireCompatible, type StartRequest, startRequest } from '../api/membership.ts';
import { TideError, tideError } from '../core/errors.ts';
import { parse } from './http-parse.ts';
import type { ManagerHandle } from './manager-handle.ts';
import type { MetaMover } from './meta-mover.ts';

export interface ConductorPorts {
  /** The manager, where it runs in this process. */
  manager(): ManagerHandle | null;
  /** Sends to the manager, where it runs elsewhere. */
  withManager<T>(send: (address: string) => Promise<T>): Promise<T>;
  /** Nodes find the manager in a shared store, and need not ask each other. */
  isShared(): boolean;
  /** Null: it has none yet. */
  clusterId(): string | null;
  mover: MetaMover;
  /** Some start of some node asks whether it may be that. */
  onStart(request: StartRequest): void;
}

/** A call as it has come. */
export interface Asked {
  readonly body: unknown;
  /** Another node has passed it on. */
  readonly forwarded: boolean;
}

type Answer<N extends CallName> = Promise<Calls[N]['gets']>;

/** An operation may be started by a call, never awaited: what takes longer has failed. */
const FORWARD_MS = 60_000;

/**
 * What is the manager's to answer is carried out by the one in this process, or passed on to wherever it
 * runs. Where the meta store lies is this process's own affair: the manager is stopped while that changes.
 */
export class Conductor {
  readonly #ports: ConductorPorts;

  constructor(ports: ConductorPorts) {
    this.#ports = ports;
  }

  async admin(asked: Asked): Answer<'admin'> {
    const { mover } = this.#ports;
    const manager = this.#ports.manager();
    if (!manager) return this.#passOn('admin', asked);
    const command = parse(adminCommand, asked.body, 'admin command');
    switch (command.do) {
      case 'meta-move':
        return mover.handOver(command.node);
      case 'meta-migrate':
        return mover.migrate(command.to);
      default:
        return this.#run(manager, command, asked);
    }
  }

  async #run(manager: ManagerHandle, command: ManagerCommand, asked: Asked): Answer<'admin'> {
    try {
      return await manager.run(command);
    } catch (error) {
      if (!(error instanceof TideError) || error.code !== 'META_HOME') throw error;
      // The node that is to go holds the meta store: its successor takes that over and then carries the
      // command out.
      await this.#ports.mover.handOver(error.details.successor as number);
      return this.#passOn('admin', asked);
    }
  }

  async join(asked: Asked): Answer<'join'> {
    const manager = this.#ports.manager();
    if (!manager) return this.#passOn('join', asked);
    requireCompatible(asked.body);
    return manager.join(parse(joinRequest, asked.body, 'join request'));
  }

  async start(asked: Asked): Answer<'start'> {
    const request = parse(startRequest, asked.body, 'start');
    this.#ports.onStart(request);
    const manager = this.#ports.manager();
    if (!manager && asked.forwarded)
      throw tideError('NO_MANAGER', { manager: request.address, why: 'two nodes take each other for the manager' });
    if (!manager) return this.#passOn('start', asked);
    await manager.admit(request);
    return null;
  }

  async beat(asked: Asked): Answer<'beat'> {
    const manager = this.#ports.manager();
    if (manager) requireCompatible(asked.body);
    const report = parse(beatReport, asked.body, 'beat');
    if (manager) return manager.beat(report);
    // The old home of the meta store beats here only after it has let go: a crash may have cut off its word
    // to go on.
    await this.#ports.mover.activate(report.node);
    return this.#ports.manager()?.beat(report) ?? this.#passOn('beat', asked);
  }

  /**
   * As it has come: its caller and the manager may know more than this node. What another node has passed on
   * is not passed on once more: its view and this one's differ, and neither may be right yet.
   */
  async #passOn<N extends CallName>(name: N, { body, forwarded }: Asked): Answer<N> {
    const { isShared, clusterId, withManager } = this.#ports;
    if (forwarded && isShared()) throw tideError('NO_MANAGER_ELECTED', { why: 'it changes at this moment' });
    const options = { timeoutMs: FORWARD_MS, forwarded: true, cluster: clusterId() ?? undefined };
    return withManager((manager) => ask(manager, name, body as Calls[N]['sends'], options));
  }
}
