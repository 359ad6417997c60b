import { must } from '../../src/core/assert.ts';
import { MANAGER, NODES, REPLICAS, type Stage, textOf } from './stage.ts';

export type Role = 'source' | 'target';

/** An operation about to be brought about, and who plays which part in it. */
export interface Cast {
  readonly source?: number;
  readonly target?: number;
  /** A node that is dead until `restore`. */
  readonly away?: number;
  /** Where it fails because a victim has died, the operation counts, not the answer. */
  start(): Promise<unknown>;
  /** What is not as an operation that has ended so leaves it. */
  outcome?(isDone: boolean): Promise<string[]>;
  /** Puts back what is not as every case begins. */
  restore?(): Promise<void>;
}

export interface Scenario {
  readonly kind: string;
  /** Where its kind has another one. */
  readonly name?: string;
  /** Parts that nobody plays, each with why. */
  readonly nobody?: Partial<Record<Role, string>>;
  /** Steps that have nothing to do in it, each with why: another scenario meets them. */
  readonly idle?: Readonly<Record<string, string>>;
  /**
   * Why an operation that was undone leaves another configuration than it found; without it, it must be the
   * same.
   */
  readonly undoneDiffers?: string;
  prepare(stage: Stage): Promise<Cast>;
}

const others = (...not: number[]) => NODES.filter((n) => n !== MANAGER && !not.includes(n));
const first = (nodes: readonly number[]) => must(nodes[0], 'a node');
const NEXT_TABLE = { n: 0 };

/**
 * Replicas where they should not be, and the other way round. Whom a failover has made the leader meanwhile
 * keeps what it has.
 */
async function holders(stage: Stage, pid: number, has: readonly number[], hasNot: readonly number[]) {
  const { leader, followers } = await stage.parts(pid);
  return [
    ...has
      .filter((n) => n !== leader && !followers.includes(n))
      .map((n) => `node ${n} has no replica of partition ${pid}`),
    ...hasNot.filter((n) => followers.includes(n)).map((n) => `node ${n} has a replica of partition ${pid}`),
  ];
}

const moveReplica: Scenario = {
  kind: 'move-replica',
  prepare: async (stage) => {
    const { pid, leader: source, spare } = await stage.someParts();
    const target = first(spare);
    return {
      source,
      target,
      start: () =>
        stage.cluster.admin({ do: 'partition-migrate', table: 'load', pids: [pid], from: source, to: target }),
      outcome: (isDone) => holders(stage, pid, [isDone ? target : source], [isDone ? source : target]),
      restore: async () => {
        const { followers } = await stage.parts(pid);
        if (followers.length >= REPLICAS) await stage.removeReplica(pid, target);
      },
    };
  },
};

const addReplica: Scenario = {
  kind: 'add-replica',
  prepare: async (stage) => {
    const { pid, leader: source, spare } = await stage.someParts();
    const target = first(spare);
    return {
      source,
      target,
      start: () => stage.cluster.admin({ do: 'partition-add-replica', table: 'load', pids: [pid], node: target }),
      outcome: (isDone) => holders(stage, pid, isDone ? [target] : [], isDone ? [] : [target]),
      restore: () => stage.removeReplica(pid, target),
    };
  },
};

const removeReplica: Scenario = {
  kind: 'remove-replica',
  prepare: async (stage) => {
    const { pid, leader: source, spare } = await stage.someParts();
    const target = first(spare);
    await stage.addReplica(pid, target);
    return {
      source,
      target,
      start: () => stage.cluster.admin({ do: 'partition-del-replica', table: 'load', pids: [pid], node: target }),
      outcome: (isDone) => holders(stage, pid, isDone ? [] : [target], isDone ? [target] : []),
      restore: () => stage.removeReplica(pid, target),
    };
  },
};

const changeLeader: Scenario = {
  kind: 'change-leader',
  prepare: async (stage) => {
    const { pid, leader: source, followers } = await stage.someParts();
    const target = first(followers.filter((n) => n !== MANAGER));
    return {
      source,
      target,
      start: () => stage.cluster.admin({ do: 'partition-change-leader', table: 'load', pid, to: target }),
    };
  },
};

/** A node that went and came back has replicas that missed rows: those that it led. */
const resyncReplica: Scenario = {
  kind: 'resync-replica',
  undoneDiffers: 'a stale replica is worth nothing: it is gone, and made again wherever there is room',
  prepare: async (stage) => {
    const { pid, leader: target } = await stage.someParts();
    await outAndFailedOver(stage, target);
    const { leader } = await stage.parts(pid);
    return {
      source: leader === MANAGER ? first(others(target)) : leader,
      target,
      start: () => comeBack(stage, target),
    };
  },
};

const failover: Scenario = {
  kind: 'failover',
  nobody: { source: 'it is dead: that is what the operation is about' },
  prepare: async (stage) => {
    const { leader: dead, followers } = await stage.someParts();
    return {
      away: dead,
      target: first(followers.filter((n) => n !== MANAGER)),
      start: () => stage.killMachine(dead),
      restore: () => comeBack(stage, dead),
    };
  },
};

const recoverNode: Scenario = {
  kind: 'recover-node',
  prepare: async (stage) => {
    const { leader: target } = await stage.someParts();
    await outAndFailedOver(stage, target);
    return { source: first(others(target)), target, start: () => comeBack(stage, target) };
  },
};

const giveUpNode: Scenario = {
  kind: 'give-up-node',
  nobody: { source: 'it is dead: that is what the operation is about' },
  prepare: async (stage) => {
    const { leader: dead } = await stage.someParts();
    await outAndFailedOver(stage, dead);
    return {
      away: dead,
      target: first(others(dead)),
      start: () => stage.cluster.admin({ do: 'setting-set', key: 'node.dead_after', value: '1' }),
      restore: async () => {
        await stage.cluster.admin({ do: 'setting-set', key: 'node.dead_after', value: '600' });
        await comeBack(stage, dead);
      },
    };
  },
};

const dropNode: Scenario = {
  kind: 'drop-node',
  nobody: { source: 'it is dead: that is what the operation is about' },
  prepare: async (stage) => {
    const { id } = await stage.cluster.addNode();
    const { pid, leader } = await stage.someParts();
    await stage.addReplica(pid, id);
    const table = await tableOnlyOn(stage, id);
    await stage.killMachine(id);
    await stage.untilCondition(id, 'out');
    await stage.untilQuiet();
    return {
      // Where it begins anew, unless that is the manager's home.
      target: (await holdsLeast(stage)) ?? leader,
      start: () => stage.cluster.admin({ do: 'node-drop', node: id, acceptDataLoss: [`${table}/0`], sure: true }),
      outcome: async () => {
        await stage.cluster.sql(2).query(`INSERT INTO ${table} SELECT n, 'x' FROM generate_series(1, 50) n`);
        const { rows } = await stage.cluster.sql(4).query(`SELECT count(*)::int AS n FROM ${table}`);
        return rows[0]?.n === 50 ? [] : [`table ${table} has begun anew with ${rows[0]?.n} rows, not 50`];
      },
      restore: () => dropIfThere(stage, table),
    };
  },
};

/** A table whose only copy is on the node, with rows in it. */
async function tableOnlyOn(stage: Stage, node: number): Promise<string> {
  const name = `lone_${++NEXT_TABLE.n}`;
  await stage.createTable(tableSql(name), 1, 1);
  const [row] = await stage.cluster.admin({ do: 'partition-ls', table: name });
  if (row && row.node !== node) await stage.migrate(0, row.node, node, name);
  await stage.cluster.sql(2).query(`INSERT INTO ${name} SELECT n, 'x' FROM generate_series(1, 500) n`);
  return name;
}

/** Of the first nodes; undefined where it is the manager's home. */
async function holdsLeast(stage: Stage): Promise<number | undefined> {
  const rows = await stage.cluster.admin({ do: 'partition-ls' });
  const held = (node: number) => rows.filter((r) => r.node === node).length;
  const least = first([...NODES].sort((a, b) => held(a) - held(b) || a - b));
  return least === MANAGER ? undefined : least;
}

const joinNode: Scenario = {
  kind: 'join-node',
  prepare: async (stage) => {
    const joiner = 1 + Math.max(...(await stage.cluster.admin({ do: 'node-status' })).map((n) => n.id));
    return {
      source: first(others()),
      target: joiner,
      start: () => stage.cluster.addNode(),
      restore: () => decommissionAndStop(stage, joiner),
    };
  },
};

const decommission: Scenario = {
  kind: 'decommission',
  prepare: async (stage) => {
    const { id: source } = await stage.cluster.addNode();
    const { pid, leader, followers } = await stage.someParts();
    const target = first(followers.filter((n) => n !== MANAGER));
    await stage.migrate(pid, target, source);
    await stage.changeLeader(pid, source).catch(() => {});
    return {
      source,
      target: target === source ? leader : target,
      start: () => stage.cluster.admin({ do: 'node-decommission', nodes: [source] }),
      restore: () => decommissionAndStop(stage, source),
    };
  },
};

const drainNode: Scenario = {
  kind: 'drain-node',
  name: 'drain',
  idle: { 'forget-drain': 'what the drain took is kept until the node takes it back' },
  prepare: async (stage) => {
    const { leader: source, followers } = await stage.someParts();
    return {
      source,
      target: first(followers.filter((n) => n !== MANAGER)),
      start: () => stage.cluster.admin({ do: 'node-drain', node: source }),
      restore: () => stage.undrain(source),
    };
  },
};

const undrainNode: Scenario = {
  kind: 'drain-node',
  name: 'undrain',
  idle: { 'let-go': 'nobody is let go of' },
  prepare: async (stage) => {
    const { pid, leader: source, followers } = await stage.someParts();
    const { operation } = await stage.cluster.admin({ do: 'node-drain', node: source });
    if (operation !== null) await stage.cluster.waitForOperation(operation);
    const { leader } = await stage.parts(pid);
    return {
      source,
      // Who led meanwhile.
      target: leader === MANAGER ? first(followers.filter((n) => n !== MANAGER)) : leader,
      start: () => stage.cluster.admin({ do: 'node-undrain', node: source }),
      outcome: async (isDone) => {
        // Whom a failover has made the leader meanwhile keeps what it has.
        const leads = (await stage.parts(pid)).leader === source || (await stage.hasFailedOver(operation ?? 0));
        return isDone && !leads ? [`node ${source} does not lead partition ${pid} again`] : [];
      },
      restore: () => stage.undrain(source),
    };
  },
};

const rebalance: Scenario = {
  kind: 'rebalance',
  undoneDiffers: 'moves that had ended stay',
  prepare: async (stage) => {
    const { id: target } = await stage.cluster.addNode();
    return {
      source: first(others()),
      target,
      start: () => stage.cluster.admin({ do: 'scale-out' }),
      restore: () => decommissionAndStop(stage, target),
    };
  },
};

const tableSql = (name: string) => `CREATE TABLE ${name} (id bigint PRIMARY KEY, note text)`;

const createTable: Scenario = {
  kind: 'create-table',
  prepare: async (stage) => {
    const name = `made_${++NEXT_TABLE.n}`;
    const find = async () => (await stage.cluster.admin({ do: 'table-ls' })).find((t) => t.name === name);
    return {
      source: 2,
      target: 3,
      start: () => stage.cluster.admin({ do: 'table-create', sql: tableSql(name), partitions: 4, replicas: 3 }),
      outcome: async (isDone) => {
        if (!isDone) return (await find()) ? [`table ${name} is there`] : [];
        await stage.cluster.sql(2).query(`INSERT INTO ${name} SELECT n, 'x' FROM generate_series(1, 50) n`);
        const { rows } = await stage.cluster.sql(4).query(`SELECT count(*)::int AS n FROM ${name}`);
        return rows[0]?.n === 50 ? [] : [`table ${name} has ${rows[0]?.n} of 50 rows`];
      },
      restore: () => dropIfThere(stage, name),
    };
  },
};

const dropTable: Scenario = {
  kind: 'drop-table',
  prepare: async (stage) => {
    const name = `gone_${++NEXT_TABLE.n}`;
    await stage.createTable(tableSql(name), 4, 3);
    await stage.cluster.sql(2).query(`INSERT INTO ${name} SELECT n, 'x' FROM generate_series(1, 500) n`);
    return {
      source: 2,
      target: 3,
      start: () => stage.cluster.admin({ do: 'table-drop', table: name }),
      outcome: async (isDone) => {
        const found = (await stage.cluster.admin({ do: 'table-ls' })).some((t) => t.name === name);
        return found === isDone ? [`table ${name} is ${found ? 'there' : 'gone'}`] : [];
      },
    };
  },
};

async function dropIfThere(stage: Stage, name: string): Promise<void> {
  if (!(await stage.cluster.admin({ do: 'table-ls' })).some((t) => t.name === name)) return;
  const { operation } = await stage.cluster.admin({ do: 'table-drop', table: name });
  if (operation !== null) await stage.cluster.waitForOperation(operation);
}

/** Its server and process are gone, others lead in its place, and nothing is under way any more. */
async function outAndFailedOver(stage: Stage, node: number): Promise<void> {
  await stage.killMachine(node);
  await stage.untilCondition(node, 'out');
  const untilMs = performance.now() + 20_000;
  for (;;) {
    const running = (await stage.cluster.admin({ do: 'op-ls' })).filter((o) => o.endedAt === null);
    if (running.length === 0) return;
    if (performance.now() > untilMs)
      throw new Error(`node ${node} is out, and still: ${running.map(textOf).join('; ')}`);
  }
}

async function comeBack(stage: Stage, node: number): Promise<void> {
  if (!stage.cluster.node(node).isRunning) await stage.cluster.node(node).restart();
}

async function decommissionAndStop(stage: Stage, node: number): Promise<void> {
  const row = (await stage.cluster.admin({ do: 'node-status' })).find((n) => n.id === node);
  if (row && row.state !== 'decommissioned') {
    await stage.untilCondition(node, 'live');
    await stage.untilQuiet();
    const { operation } = await stage.cluster.admin({ do: 'node-decommission', nodes: [node] });
    if (operation !== null) await stage.cluster.waitForOperation(operation);
  }
  if (stage.cluster.node(node).isRunning) await stage.cluster.node(node).stop();
  else stage.cluster.node(node).killPostgres();
}

/**
 * At least one for each kind of operation there is: a unit test sees to it, and that every boundary is met.
 */
export const SCENARIOS: readonly Scenario[] = [
  moveReplica,
  addReplica,
  removeReplica,
  changeLeader,
  resyncReplica,
  failover,
  recoverNode,
  giveUpNode,
  dropNode,
  joinNode,
  decommission,
  drainNode,
  undrainNode,
  rebalance,
  createTable,
  dropTable,
];
