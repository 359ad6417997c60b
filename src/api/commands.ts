import * as z from 'zod';

/**
 * The one vocabulary of administration: CLI, dashboard, dialects and tests all send these to `POST
 * /api/v1/admin` of any node, which hands them on to the manager. Names of nodes: a numeric id; endpoints are
 * HOST:PORT of `--advertise-addr`.
 */

const nodeId = z.int().positive();
const table = z.string().min(1);
const pid = z.int().nonnegative();
const pids = z.array(pid).min(1);
const dryRun = z.boolean().default(false);
/** What a node holds that no other node has may leave with it. */
const abandonLocalTables = z.boolean().default(false);
const checks = z.enum(['enabled', 'strict', 'skip']).default('enabled');

export const adminCommand = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('node-status') }),
  z.strictObject({
    do: z.literal('node-decommission'),
    nodes: z.array(nodeId).min(1),
    dryRun,
    checks,
    abandonLocalTables,
  }),
  z.strictObject({ do: z.literal('node-recommission'), nodes: z.array(nodeId).min(1) }),
  /** `allowSingleReplica`: what no other node holds, or follows, is left so while the node is away. */
  z.strictObject({ do: z.literal('node-drain'), node: nodeId, allowSingleReplica: z.boolean().default(false) }),
  z.strictObject({ do: z.literal('node-undrain'), node: nodeId }),
  z.strictObject({ do: z.literal('node-offline'), node: nodeId }),
  z.strictObject({ do: z.literal('node-recover'), node: nodeId }),
  /** `acceptDataLoss`: TABLE/PID of partitions whose last copy may go with the node. */
  z.strictObject({
    do: z.literal('node-drop'),
    node: nodeId,
    acceptDataLoss: z.array(z.string().regex(/^.+\/\d+$/)).default([]),
    abandonLocalTables,
    /** Also where it was heard a moment ago. */
    sure: z.boolean().default(false),
  }),
  z.strictObject({ do: z.literal('scale-out'), dryRun }),
  z.strictObject({
    do: z.literal('scale-in'),
    endpoints: z.array(z.string()).min(1),
    dryRun,
    checks,
    abandonLocalTables,
  }),
  z.strictObject({
    do: z.literal('plan'),
    add: z.int().positive().max(1000).optional(),
    remove: z.array(nodeId).min(1).optional(),
    rebalance: z.boolean().optional(),
    abandonLocalTables,
  }),
  z.strictObject({
    do: z.literal('table-create'),
    sql: z.string().min(1),
    partitions: z.int().positive().max(4096).optional(),
    replicas: z.int().positive().max(9).optional(),
    distributeBy: z.string().min(1).optional(),
  }),
  z.strictObject({ do: z.literal('table-drop'), table }),
  z.strictObject({ do: z.literal('table-ls') }),
  z.strictObject({ do: z.literal('partition-ls'), table: table.optional() }),
  z.strictObject({ do: z.literal('partition-migrate'), table, pids, from: nodeId, to: nodeId }),
  z.strictObject({ do: z.literal('partition-change-leader'), table, pid, to: z.union([nodeId, z.literal('auto')]) }),
  z.strictObject({
    do: z.literal('partition-recover'),
    table,
    pid,
    node: nodeId,
    acceptDataLoss: z.boolean().default(false),
  }),
  z.strictObject({ do: z.literal('partition-add-replica'), table, pids, node: nodeId }),
  z.strictObject({ do: z.literal('partition-del-replica'), table, pids, node: nodeId }),
  z.strictObject({ do: z.literal('op-ls'), all: z.boolean().default(false) }),
  z.strictObject({ do: z.literal('op-show'), id: z.int().positive() }),
  z.strictObject({ do: z.literal('op-cancel'), id: z.int().positive() }),
  z.strictObject({ do: z.literal('pause-ls') }),
  z.strictObject({
    do: z.literal('events'),
    after: z.int().nonnegative().default(0),
    limit: z.int().positive().max(10_000).default(200),
  }),
  z.strictObject({ do: z.literal('setting-ls') }),
  z.strictObject({ do: z.literal('setting-set'), key: z.string().min(1), value: z.string() }),
  z.strictObject({ do: z.literal('manager-ls') }),
  z.strictObject({ do: z.literal('meta-move'), node: nodeId }),
  z.strictObject({ do: z.literal('meta-migrate'), to: z.string().min(1) }),
  z.strictObject({ do: z.literal('doctor'), fix: z.boolean().default(false) }),
]);

export type AdminCommand = z.infer<typeof adminCommand>;
/** The rest is carried out by the node's process, with its manager stopped. */
export type ManagerCommand = Exclude<AdminCommand, { do: 'meta-move' | 'meta-migrate' }>;
/** What a caller may leave out has a default here. */
export type AdminRequest = z.input<typeof adminCommand>;
