import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OperationRow, PartitionRow } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { LocalCluster } from '../../src/local/local-cluster.ts';
import { LOAD_TABLE, Load, PARTITIONS } from '../fault/support/load.ts';
import { whatIsWrong } from '../support/checks.ts';

/** The manager's home. It is killed as the manager; sources and targets are among the others. */
export const MANAGER = 1;
export const NODES = [1, 2, 3, 4] as const;
/** More than two, so that a partition is never down to a copy that nobody can check. */
export const REPLICAS = 3;
const TABLE = 'load';
const POLL_MS = 50;
/** Until the operation is where it is to be killed; what brings it about may be a failover and a return. */
const HIT_MS = 40_000;
const QUIET_MS = 90_000;

export interface Parts {
  readonly pid: number;
  readonly leader: number;
  readonly followers: readonly number[];
  /** Nodes of the cluster's first four that have no replica of it. */
  readonly spare: readonly number[];
}

export interface Configuration {
  readonly nodes: readonly string[];
  readonly replicas: readonly string[];
}

export const textOf = (o: OperationRow) => `${o.id} ${o.kind} ${o.subject} at ${o.step}: ${o.waitsFor?.text}`;

/**
 * A cluster under load that stands while case after case is played on it; every manager in it knows crash
 * points.
 */
export class Stage {
  readonly cluster: LocalCluster;
  readonly load: Load;
  readonly #points: string;
  #turn = 0;

  private constructor(cluster: LocalCluster, load: Load, points: string) {
    this.cluster = cluster;
    this.load = load;
    this.#points = points;
  }

  static async open(): Promise<Stage> {
    const points = mkdtempSync(join(tmpdir(), 'pgtide-points-'));
    // The nodes write there, who are somebody else where root runs this.
    chmodSync(points, 0o777);
    process.env.PGTIDE_CRASH_POINTS = points;
    const cluster = await LocalCluster.create();
    try {
      for (const _ of NODES) await cluster.addNode();
      await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
      await createTable(cluster, LOAD_TABLE, PARTITIONS, REPLICAS);
      return new Stage(cluster, await Load.prepare(cluster, MANAGER), points);
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.release();
    await this.load.close();
    await this.cluster.close();
    rmSync(this.#points, { recursive: true, force: true });
  }

  arm(boundary: string): void {
    this.release();
    writeFileSync(join(this.#points, 'armed'), boundary);
  }

  /**
   * The operation that stands at the boundary that was armed goes on to this one; `refused`: its record is
   * not written, so that it is told first.
   */
  goOnTo(boundary: string, refused: boolean): void {
    if (refused) writeFileSync(join(this.#points, 'refused'), '');
    writeFileSync(join(this.#points, 'armed'), boundary);
    rmSync(join(this.#points, 'hit'), { force: true });
  }

  /** The number of the operation that stands at the boundary now; `failed` says why none will come. */
  async untilHit(failed: () => string | null): Promise<number> {
    const untilMs = performance.now() + HIT_MS;
    while (!existsSync(join(this.#points, 'hit'))) {
      const why = failed() ?? (performance.now() > untilMs ? `nothing came there in ${HIT_MS / 1000} s` : null);
      if (why !== null) throw new Error(`the boundary was not reached: ${why}`);
      await sleep(5);
    }
    return Number(readFileSync(join(this.#points, 'hit'), 'utf8'));
  }

  /** Lets whoever stands at a boundary go on, and nobody stop. */
  release(): void {
    for (const name of ['armed', 'hit', 'refused']) rmSync(join(this.#points, name), { force: true });
  }

  /** No operation is under way any more: throws with those that still are. */
  async untilQuiet(): Promise<void> {
    const untilMs = performance.now() + QUIET_MS;
    for (;;) {
      const rows = await this.cluster.admin({ do: 'op-ls' }).catch(() => null);
      const running = rows?.filter((o) => o.endedAt === null);
      if (running?.length === 0 && (await this.#isWhole())) return;
      if (performance.now() > untilMs) {
        throw new Error(`not at rest after ${QUIET_MS / 1000} s: ${running?.map(textOf).join('; ')}`);
      }
      await sleep(POLL_MS);
    }
  }

  /** Every one of the first nodes is live, and no replica waits to be copied. */
  async #isWhole(): Promise<boolean> {
    const nodes = await this.cluster.admin({ do: 'node-status' });
    const rows = await this.cluster.admin({ do: 'partition-ls' });
    return NODES.every((id) => nodes.find((n) => n.id === id)?.isLive) && rows.every((r) => r.state === 'ready');
  }

  /** Every one of the first nodes but `away` answers, through its own port. */
  async isServing(away: number | undefined): Promise<boolean> {
    const answers = NODES.filter((n) => n !== away).map((n) => this.cluster.sql(n).query('SELECT 1'));
    return (await Promise.allSettled(answers)).every((a) => a.status === 'fulfilled');
  }

  async wrong(): Promise<string[]> {
    const found = await whatIsWrong(this.cluster, NODES);
    for (const node of NODES)
      found.push(...(await this.load.verify(node)).map((text) => `through node ${node}: ${text}`));
    return found;
  }

  async rows(): Promise<PartitionRow[]> {
    return await this.cluster.admin({ do: 'partition-ls', table: TABLE });
  }

  async parts(pid: number): Promise<Parts> {
    const rows = (await this.rows()).filter((r) => r.pid === pid);
    const leader = must(
      rows.find((r) => r.role === 'leader'),
      `leader of ${pid}`,
    ).node;
    const followers = rows.filter((r) => r.role === 'follower').map((r) => r.node);
    return { pid, leader, followers, spare: NODES.filter((n) => !rows.some((r) => r.node === n)) };
  }

  /**
   * A partition that the manager's home does not lead, and whose spare node is not the manager's either;
   * partitions take turns.
   */
  async someParts(): Promise<Parts> {
    const pid = this.#turn++ % PARTITIONS;
    let parts = await this.parts(pid);
    if (parts.leader === MANAGER) {
      await this.changeLeader(pid, must(parts.followers[0], 'follower'));
      parts = await this.parts(pid);
    }
    if (parts.spare.includes(MANAGER)) {
      await this.migrate(pid, must(parts.followers[0], 'follower'), MANAGER);
      parts = await this.parts(pid);
    }
    return parts;
  }

  async changeLeader(pid: number, to: number): Promise<void> {
    await this.#wait(await this.cluster.admin({ do: 'partition-change-leader', table: TABLE, pid, to }));
  }

  async migrate(pid: number, from: number, to: number, table = TABLE): Promise<void> {
    await this.#wait(await this.cluster.admin({ do: 'partition-migrate', table, pids: [pid], from, to }));
  }

  /** Adds the replica where it is missing. */
  async addReplica(pid: number, node: number): Promise<void> {
    const { leader, followers } = await this.parts(pid);
    if ([leader, ...followers].includes(node)) return;
    await this.#wait(await this.cluster.admin({ do: 'partition-add-replica', table: TABLE, pids: [pid], node }));
  }

  /** Takes the replica away where it is. */
  async removeReplica(pid: number, node: number): Promise<void> {
    const { leader, followers } = await this.parts(pid);
    if (leader === node) await this.changeLeader(pid, must(followers[0], 'follower'));
    if (![leader, ...followers].includes(node)) return;
    await this.#wait(await this.cluster.admin({ do: 'partition-del-replica', table: TABLE, pids: [pid], node }));
  }

  async createTable(sql: string, partitions: number, replicas: number): Promise<void> {
    await createTable(this.cluster, sql, partitions, replicas);
  }

  async undrain(node: number): Promise<void> {
    const { operation } = await this.cluster.admin({ do: 'node-undrain', node });
    if (operation !== null) await this.cluster.waitForOperation(operation);
  }

  /**
   * What an operation that was undone leaves as it was: members, and who leads and holds what. A node that
   * has left is none.
   */
  async configuration(): Promise<Configuration> {
    const nodes = await this.cluster.admin({ do: 'node-status' });
    const rows = await this.cluster.admin({ do: 'partition-ls' });
    const members = nodes.filter((n) => n.state !== 'decommissioned');
    return {
      nodes: members.map((n) => `node ${n.id} is ${n.state}${n.isDraining ? ', drained' : ''}`),
      replicas: rows.map((r) => `${r.table} ${r.pid} on node ${r.node} (${r.role})`),
    };
  }

  /** Whether others led in a node's place since that operation began. */
  async hasFailedOver(since: number): Promise<boolean> {
    return (await this.cluster.admin({ do: 'op-ls', all: true })).some((o) => o.kind === 'failover' && o.id > since);
  }

  async #wait({ operations }: { operations: readonly number[] }): Promise<void> {
    for (const id of operations) await this.cluster.waitForOperation(id);
  }

  /** The process and its server, as a machine that loses power. */
  async killMachine(node: number): Promise<void> {
    const killed = this.cluster.node(node).kill();
    this.cluster.node(node).killPostgres();
    await killed;
  }

  async untilCondition(node: number, ...wanted: string[]): Promise<void> {
    const untilMs = performance.now() + HIT_MS;
    for (;;) {
      const rows = await this.cluster.admin({ do: 'node-status' }).catch(() => []);
      const condition = rows.find((r) => r.id === node)?.condition;
      if (condition && wanted.includes(condition)) return;
      if (performance.now() > untilMs) throw new Error(`node ${node} is ${condition}, not ${wanted.join(' or ')}`);
      await sleep(POLL_MS);
    }
  }
}

async function createTable(cluster: LocalCluster, sql: string, partitions: number, replicas: number): Promise<void> {
  const { operation } = await cluster.admin({ do: 'table-create', sql, partitions, replicas });
  await cluster.waitForOperation(operation);
}
