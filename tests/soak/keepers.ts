import type { OperationRow } from '../../src/api/results.ts';
import { partitionTable } from '../../src/catalog/names.ts';
import { messageOf } from '../../src/core/errors.ts';
import type { Random } from '../fakes/random.ts';
import type { World } from './world.ts';

/** An operation that stays at one step for so long without saying what it waits for. */
const SILENT_MS = 15_000;
const LOOK_MS = 700;

/** Looks at the cluster all the time: who leads what, and whether operations say what they wait for. */
export class Watcher {
  readonly #world: World;
  readonly #seen = new Map<number, { at: string; sinceMs: number; percent: number }>();
  /** The newest event that was read. */
  #event = 0;

  constructor(world: World) {
    this.#world = world;
  }

  async run(): Promise<void> {
    while (!this.#world.stopping) {
      await this.look();
      await this.#world.pause(LOOK_MS);
    }
  }

  async look(): Promise<void> {
    const askedMs = performance.now();
    try {
      // A leader may come and go between two looks, while the manager is down: the events tell of it.
      const events = await this.#world.admin({ do: 'events', after: this.#event, limit: 1_000 });
      this.#world.seeLeaders(await this.#world.admin({ do: 'partition-ls' }), events, askedMs);
      this.#event = events.at(-1)?.seq ?? this.#event;
      for (const operation of await this.#world.unended()) this.#lookAt(operation);
    } catch (error) {
      if (!this.#world.disturbedBetween(askedMs, performance.now())) this.#world.trace(`watcher: ${messageOf(error)}`);
    }
    await this.#world.judgeFailures();
  }

  #lookAt({ id, kind, subject, status, step, percent, waitsFor }: OperationRow): void {
    const nowMs = performance.now();
    const seen = this.#seen.get(id);
    if (seen && percent < seen.percent && status === 'running')
      this.#world.find(`operation ${id} (${kind} ${subject}) went from ${seen.percent} % to ${percent} %`);
    const at = `${status} ${step}`;
    const moved = seen === undefined || seen.at !== at || waitsFor !== null;
    const sinceMs = moved ? nowMs : seen.sinceMs;
    this.#seen.set(id, { at, sinceMs, percent });
    if (nowMs - sinceMs < SILENT_MS || this.#world.disturbedBetween(sinceMs, nowMs)) return;
    this.#world.find(`operation ${id} (${kind} ${subject}) is ${at} for ${SILENT_MS / 1000} s and does not say why`);
    this.#seen.delete(id);
  }
}

/**
 * Somebody who looks after the servers without asking: VACUUM and ANALYZE of replicas and of whole tables.
 */
export class Janitor {
  readonly #world: World;
  readonly #random: Random;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.random.fork();
  }

  async run(): Promise<void> {
    while (!this.#world.stopping) {
      await this.#world.pause(this.#random.between(500, 3_000));
      await this.#clean().catch((error: unknown) => this.#world.trace(`janitor: ${messageOf(error)}`));
    }
  }

  async #clean(): Promise<void> {
    const rows = await this.#world.admin({ do: 'partition-ls' });
    if (rows.length === 0 || this.#world.stopping) return;
    const { tid, pid, node, table } = this.#random.pick(rows);
    const replica = `tide_data.${partitionTable(tid, pid)}`;
    const work = this.#random.pick([
      `VACUUM ${replica}`,
      `ANALYZE ${replica}`,
      `VACUUM FREEZE ${replica}`,
      `ANALYZE ${table}`,
    ]);
    await this.#world.cluster.manager(node).query(work);
    this.#world.count('maintenance');
  }
}
