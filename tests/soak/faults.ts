import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../src/core/errors.ts';
import type { Random } from '../fakes/random.ts';
import { freezeNode } from '../support/freeze.ts';
import type { World } from './world.ts';

const PAUSE_MS = [2_000, 8_000] as const;
const FREEZE_MS = [1_000, 8_000] as const;
const RECOVERY_MS = 60_000;

const FAULTS = {
  'kill -9 of the process of': 3,
  'kill -9 of the manager on': 2,
  'kill -9 of the PostgreSQL of': 3,
  'kill -9 of everything on': 2,
  'freeze of': 3,
  'freeze of the process of': 2,
  'restart of': 1,
  'end of the walsenders of': 1,
  'end of the apply workers of': 1,
};

/**
 * One fault after the other, each survived before the next; with several of these there are as many at once,
 * on different nodes.
 */
export class Faults {
  readonly #world: World;
  readonly #random: Random;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.random.fork();
  }

  async run(): Promise<void> {
    while (!this.#world.stopping) {
      await this.#world.pause(this.#random.between(...PAUSE_MS));
      if (this.#world.stopping) return;
      const what = this.#random.weighted(FAULTS);
      const { calm } = this.#world;
      // At least two nodes are left alone: one fault more would only make everything wait.
      if (calm.length < 3) continue;
      const node = what === 'kill -9 of the manager on' ? await this.#manager() : this.#random.pick(calm);
      if (!this.#world.calm.includes(node)) continue;
      const over = this.#world.disturb(node, what);
      try {
        await this.#cause(what, node);
        await this.#untilServes(node);
      } catch (error) {
        // It has left while it was down, and nobody starts it any more; or while it started, and was told to
        // end.
        if (!this.#world.members.has(node) || messageOf(error).includes('STORE_DECOMMISSIONED')) continue;
        this.#world.find(`node ${node} did not come back after ${what} node ${node}: ${messageOf(error)}`);
      } finally {
        over();
      }
    }
  }

  async #manager(): Promise<number> {
    const rows = await this.#world.admin({ do: 'node-status' }).catch(() => []);
    return rows.find((r) => r.isManager)?.id ?? this.#random.pick([...this.#world.members]);
  }

  async #cause(what: keyof typeof FAULTS, node: number): Promise<void> {
    const { cluster } = this.#world;
    switch (what) {
      case 'kill -9 of the process of':
      case 'kill -9 of the manager on':
        await cluster.node(node).kill();
        return this.#restart(node);
      case 'kill -9 of the PostgreSQL of':
        return this.#killPostgres(node);
      case 'kill -9 of everything on':
        await cluster.node(node).kill();
        cluster.node(node).killPostgres();
        return this.#restart(node);
      case 'freeze of': {
        const thaw = freezeNode(cluster, node);
        await this.#world.pause(this.#random.between(...FREEZE_MS));
        return thaw();
      }
      case 'freeze of the process of':
        await cluster.node(node).kill('SIGSTOP');
        await this.#world.pause(this.#random.between(...FREEZE_MS));
        return cluster.node(node).kill('SIGCONT');
      case 'restart of':
        await cluster.node(node).stop();
        return this.#restart(node);
      case 'end of the walsenders of':
        return this.#terminate(node, ['walsender']);
      case 'end of the apply workers of':
        return this.#terminate(node, ['logical replication apply worker', 'logical replication tablesync worker']);
    }
  }

  /**
   * Backends outlive their postmaster for a moment and still answer: only another postmaster is a recovery.
   */
  async #killPostgres(node: number): Promise<void> {
    const { cluster } = this.#world;
    const killed = cluster.node(node).postgresProcessId;
    cluster.node(node).killPostgres();
    const until = performance.now() + RECOVERY_MS;
    while (cluster.node(node).postgresProcessId === null || cluster.node(node).postgresProcessId === killed) {
      if (performance.now() > until) throw new Error(`its PostgreSQL is not there after ${RECOVERY_MS / 1000} s`);
      await sleep(100);
    }
  }

  async #restart(node: number): Promise<void> {
    await this.#world.pause(this.#random.between(0, 4_000));
    await this.#world.cluster.node(node).restart();
  }

  async #terminate(node: number, types: readonly string[]): Promise<void> {
    await this.#world.cluster
      .manager(node)
      .query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = ANY ($1)', [types]);
  }

  async #untilServes(node: number): Promise<void> {
    const until = performance.now() + RECOVERY_MS;
    for (;;) {
      try {
        await this.#world.cluster.sql(node).query('SELECT 1');
        return;
      } catch (error) {
        if (performance.now() > until) throw error;
        await sleep(200);
      }
    }
  }
}
