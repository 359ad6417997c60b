import * as z from 'zod';
import type { ApplyError } from '../core/apply-error.ts';
import { tideError } from '../core/errors.ts';

/**
 * What nodes and the manager say to each other: joining and beating. A field that one side does not know is
 * left out of account, so that nodes of two versions can be in one cluster while it is upgraded; what an
 * older side would misunderstand raises API_VERSION.
 */
export const API_VERSION = 2;
/** Of nodes that a manager of this version still understands. */
const OLDEST_API = 2;

const tier = z.strictObject({ key: z.string().min(1), value: z.string().min(1) });

/**
 * What ends up in connection strings and addresses of the whole cluster: the names of hosts and the numbers
 * of IP addresses need no more.
 */
const HOST = /^[A-Za-z0-9_.-]{1,253}$|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?$/;
const host = z.string().regex(HOST, 'not the name or the address of a host');
const port = z.int().positive().max(65_535);
const address = z.string().refine(isAddress, 'not of the form HOST:PORT');

function isAddress(text: string): boolean {
  const parts = /^(?:\[(?<v6>[^\]]+)\]|(?<name>[^:[\]]+)):(?<port>[1-9][0-9]{0,4})$/.exec(text)?.groups;
  return parts !== undefined && HOST.test(parts.v6 ?? parts.name ?? '') && Number(parts.port) <= 65_535;
}

/** What a node tells about itself, when it joins and with every beat. */
const nodeFacts = z.object({
  api: z.int().positive(),
  address,
  httpAddress: address,
  postgresHost: host,
  postgresPort: port,
  locality: z.array(tier),
  attrs: z.array(z.string().min(1)),
  build: z.string(),
  startedAt: z.string(),
  startMode: z.enum(['start', 'start-single-replica']),
  /** Format of `node.json` that its program knows. Older programs do not say so. */
  storeFormat: z.int().positive().default(1),
});
export type NodeFacts = z.infer<typeof nodeFacts>;

/**
 * Looks at nothing but the version of a join request or a beat, whatever else is in it. Throws
 * NODE_INCOMPATIBLE.
 */
export function requireCompatible(message: unknown): void {
  const { facts, ...own } = (message ?? {}) as { facts?: object };
  // The first version did not say so.
  const { api = 1, build = 'unknown' } = (facts ?? own) as { api?: number; build?: string };
  if (api >= OLDEST_API && api <= API_VERSION) return;
  throw tideError('NODE_INCOMPATIBLE', { build, api, oldest: OLDEST_API, newest: API_VERSION });
}

export const joinRequest = nodeFacts;
export type JoinRequest = NodeFacts;

export interface JoinAnswer {
  nodeId: number;
  clusterId: string;
  /** HOST:PORT of the manager. */
  manager: string;
  /** `etcd://…` where the meta store is shared; null: it lies with the manager. */
  meta: string | null;
}

const startId = z.string().min(1).max(64);

/**
 * A start of a node's process asks whether it may be that node, before it does anything as such: `POST
 * /api/v1/start`. Any node passes it on to the manager. Nodes of version 0.1 do not ask, and do not know the
 * route.
 */
export const startRequest = z.object({
  node: z.int().positive(),
  clusterId: z.string(),
  /** Where it is, HOST:PORT. */
  address,
  start: z.object({
    id: startId,
    after: z.array(startId).max(1_000).nullable(),
    ended: z.array(startId).max(1_000),
  }),
});
export type StartRequest = z.infer<typeof startRequest>;

/** The start of a node that ran the manager with an embedded meta store. */
const managedBy = z.object({ node: z.int().positive(), start: startId });

/**
 * A client's session, or another node's, that has had a transaction open for a moment, by what PostgreSQL
 * says of it.
 */
const openSession = z.object({
  /** Of its process. */
  pid: z.int().positive(),
  /** Start of the session and of its transaction: the same as long as it is the same transaction. */
  xact: z.string(),
  ageMs: z.number(),
  /** Inside a statement. */
  active: z.boolean(),
  /** The session that has opened this one through `postgres_fdw`. */
  via: z.object({ node: z.int().positive(), pid: z.int().positive() }).nullable(),
  /** The lock that it waits for: since when, and for whom, in the server's words. */
  waits: z
    .object({ since: z.string(), pids: z.array(z.int()), lock: z.string(), relation: z.string().nullable() })
    .nullable(),
});
export type OpenSessionReport = z.infer<typeof openSession>;

const applyError = z.object({
  stream: z.string().max(200),
  table: z.string().max(200).nullable(),
  copying: z.boolean(),
  place: z.string().max(200),
  message: z.string().max(2_000),
  tries: z.number(),
  forMs: z.number(),
  agoMs: z.number(),
}) satisfies z.ZodType<ApplyError>;

export const beatReport = z.object({
  node: z.int().positive(),
  clusterId: z.string(),
  postgresUp: z.boolean(),
  /**
   * No client and no replication gets in: it is fenced, or it does not run and will be fenced when it starts.
   */
  fenced: z.boolean(),
  /** It has a lease of the shared meta store; false also where that is embedded. */
  leased: z.boolean(),
  /**
   * Format of the meta store that its program writes: with a newer store it cannot manage. Older programs do
   * not say so.
   */
  metaFormat: z.int().positive().default(1),
  diskTotalBytes: z.number().nonnegative(),
  diskFreeBytes: z.number().nonnegative(),
  facts: nodeFacts,
  /** Who may be waiting for whom; null where that could not be seen. Older programs do not look. */
  sessions: z.array(openSession).nullable().default(null),
  /**
   * Which start of the node this is, and whose answers it has heard last. Older programs have no such ids.
   */
  start: startId.nullable().default(null),
  managedBy: managedBy.nullable().default(null),
  /** `heardAtMs` of the manager's last answer before the sessions were looked at. */
  answeredMs: z.number().nullable().default(null),
  /**
   * What its workers of replication fail at. Older programs do not look. What cannot be understood costs no
   * beat: the node would be taken for dead.
   */
  applyErrors: z.array(applyError).default([]).catch([]),
});
export type BeatReport = z.infer<typeof beatReport>;

export interface BeatAnswer {
  state: 'joining' | 'active' | 'decommissioning' | 'decommissioned';
  /** Everything the node missed while it was away has been made up for. */
  upToDate: boolean;
  /**
   * `down`: its PostgreSQL may let clients in. `up`: others lead what it led, or will; nobody gets in until
   * it has been cleaned up. `keep`: nothing can be said of a server that does not answer.
   */
  fence: 'up' | 'down' | 'keep';
  /** HOST:PORT of the manager, and of every member: whom to ask when the manager has moved. */
  manager: string;
  peers: string[];
  /** As in JoinAnswer; told with every beat, since it changes when the store is migrated. */
  meta: string | null;
  /** How long the node's lease is to be. */
  leaseSeconds: number;
  /**
   * The format that `node.json` is to have from now on: programs that do not know it cannot work in the
   * cluster any more. Older managers do not say.
   */
  storeFormat?: number;
  /**
   * When this beat was heard, by the manager's clock. This and what follows an older manager does not say.
   */
  heardAtMs?: number;
  /** Transactions of this node's clients that are to be ended: they and others wait for each other. */
  deadlocks?: Victim[];
  /** The next beat is waited for: transactions may be waiting for each other. */
  soon?: boolean;
  /** Who manages, where the meta store is embedded. */
  managedBy?: z.infer<typeof managedBy>;
  /** A second start of this node, from a copy of its store, that has been refused. */
  twin?: { id: string; address: string };
}

export interface Victim {
  /** Process and transaction, as `sessions` named them. */
  pid: number;
  xact: string;
  /** A line for every process in the circle. */
  detail: string;
}

/**
 * Longest body of either of the next two: one entry, or a whole store as version 0.1 sent it. Some 100,000
 * partitions.
 */
export const META_BYTES_MAX = 32 << 20;

const metaEntries = z.array(z.strictObject({ key: z.string(), value: z.unknown() }));

/**
 * The meta store on its way to another node, part after part: `POST /api/v1/meta/part`. It runs there only
 * after the last part and `/api/v1/meta/activate`.
 */
export const metaPart = z.strictObject({
  clusterId: z.string(),
  from: z.int().positive(),
  /** The same for all parts of one store, and for no other. */
  transfer: z.string().min(1),
  /** 0 for the first one, then one more each. */
  number: z.int().nonnegative(),
  isLast: z.boolean(),
  entries: metaEntries,
});
export type MetaPart = z.infer<typeof metaPart>;

/** The same in one piece, as version 0.1 sends and takes it: `POST /api/v1/meta/receive`. */
export const metaTransfer = z.strictObject({ clusterId: z.string(), from: z.int().positive(), entries: metaEntries });
export type MetaTransfer = z.infer<typeof metaTransfer>;

/** The meta store that has come from that node is to be run. */
export const activation = z.strictObject({ from: z.int().positive() });
export type Activation = z.infer<typeof activation>;

/** Whether a node reaches the shared meta store at that URL. */
export const metaCheck = z.strictObject({ url: z.string().min(1) });
export type MetaCheck = z.infer<typeof metaCheck>;

/** What any node answers to "who are you?": how a joining or restarted node finds the manager. */
export interface WhoAmI {
  nodeId: number;
  clusterId: string;
  startMode: 'start' | 'start-single-replica';
  manager: string;
  meta: string | null;
  /** Which start of the node answers. This and what follows older programs do not say. */
  start?: string;
  /**
   * Whose answers it has heard last, with an embedded meta store, and how long ago; null: none since it was
   * started.
   */
  managedBy?: { node: number; start: string; agoMs: number | null } | null;
}
