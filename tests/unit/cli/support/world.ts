import type { AdminCommand } from '../../../../src/api/commands.ts';
import type {
  EventRow,
  NodeStatusRow,
  OperationResult,
  OperationRow,
  PartitionRow,
  PlanResult,
  SettingRow,
} from '../../../../src/api/results.ts';
import type { Settings, SettingValue } from '../../../../src/catalog/model.ts';
import { partitionTable, subscriptionName } from '../../../../src/catalog/names.ts';
import { defaultSettings, parseSetting, SETTINGS, showSetting } from '../../../../src/catalog/settings.ts';
import { must } from '../../../../src/core/assert.ts';
import { tideError } from '../../../../src/core/errors.ts';
import { OPERATION_KINDS } from '../../../../src/operations/registry.ts';
import { waitFor, waitForTransaction } from '../../../../src/operations/waiting.ts';
import { NOTES } from '../../../fakes/records.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
/** What a plan copies. */
const PLANNED = 324 * MIB;
const PER_SECOND = 84 * MIB;

/**
 * Four nodes, two tables and operations that advance each time they are looked at. docs/commands.md shows
 * what it says: kinds, steps, settings and sentences are those of the program.
 */
export class World {
  readonly addresses: readonly string[];
  /** How operations end. */
  ending: 'done' | 'failed' | 'cancelled' = 'done';
  /** Looks during which an operation waits. */
  waitingLooks = 0;
  /** A node that is out, leads acct 1 and has nobody to take its place. */
  out: number | null = null;
  /** The id of the node that has left 127.0.0.1:26260. */
  outId = 4;
  /** The node that is dropped was heard a moment ago. */
  justSeen = false;
  /** Partitions that a node to be dropped has alone. */
  lastCopies = 0;
  #looks = new Map<number, number>();
  #begun = new Map<number, Operation>(Object.entries(OPERATIONS).map(([id, operation]) => [Number(id), operation]));
  #leaving = 0;

  constructor(addresses: readonly string[]) {
    this.addresses = addresses;
  }

  answer(command: AdminCommand): unknown {
    switch (command.do) {
      case 'node-status':
        return this.#nodes();
      case 'node-decommission':
        if (command.nodes.includes(3) && !command.abandonLocalTables) throw LOCAL_TABLES;
        if (command.dryRun) return { operation: null, plan: PLAN, localData: [] };
        this.#leaving = 4;
        return { operation: 12, plan: null, localData: command.nodes.includes(3) ? [{ node: 3, ...NOTES }] : [] };
      case 'scale-in':
        if (command.dryRun) return { operation: null, plan: PLAN, localData: [], out: [] };
        if (this.#leaving === 4) return { operation: null, plan: null, localData: [], out: [this.#out()] };
        this.#leaving = 4;
        return { operation: 12, plan: null, localData: [], out: [] };
      case 'scale-out':
        return command.dryRun ? { operation: null, plan: BALANCING } : { operation: 13, plan: null };
      case 'node-recommission':
        return { operation: 24, plan: null };
      case 'node-drain':
        return { operation: 14, plan: null };
      case 'node-offline':
        return { operation: 27, plan: null };
      case 'node-recover':
        return { operation: 28, plan: null };
      case 'partition-recover':
        return { operation: 30, plan: null };
      case 'node-drop':
        if (this.lastCopies > 0) throw tideError('LAST_COPY', lastCopies(command.node, this.lastCopies));
        if (!command.sure && this.justSeen) throw tideError('NODE_JUST_SEEN', { node: command.node, seconds: 12 });
        return { operation: 29, plan: null, localData: [], notLookedAt: [command.node] };
      case 'node-undrain':
        return { operation: 25, plan: null };
      case 'plan':
        return command.remove || this.out !== null ? { ...PLAN, blocked: BLOCKED } : BALANCING;
      case 'table-create':
        return { operation: 15, table: 'acct', tid: 4 };
      case 'table-drop':
        if (command.table !== 'acct') throw tideError('TABLE_UNKNOWN', { table: command.table });
        return { operation: 16, table: 'acct' };
      case 'table-ls':
        return TABLES;
      case 'partition-ls':
        return this.#partitions();
      case 'partition-migrate':
        return this.#begin('move-replica', command, `: n${command.from} → n${command.to}`);
      case 'partition-add-replica':
        return this.#begin('add-replica', command, `: → n${command.node}`);
      case 'partition-del-replica':
        return this.#begin('remove-replica', command, `: n${command.node} →`);
      case 'partition-change-leader':
        return { operations: [26] };
      case 'op-ls':
        return this.#opList();
      case 'op-show':
        return this.#opShow(command.id);
      case 'op-cancel':
        return { ...this.#operation(command.id), status: 'undoing' };
      case 'events':
        return this.#events().filter((event) => event.seq > command.after);
      case 'setting-ls':
        return (Object.keys(SETTINGS) as (keyof Settings)[]).map((key) => setting(key, defaultSettings()[key]));
      case 'setting-set': {
        const { key, value } = parseSetting(command.key, command.value);
        return setting(key, value);
      }
      case 'meta-move':
        return { node: command.node, address: this.addresses[command.node - 1] };
      case 'meta-migrate':
        return { meta: command.to };
      case 'manager-ls':
        return {
          meta: 'etcd://10.0.0.1:2379',
          managers: this.addresses.slice(0, 3).map((endpoint, i) => {
            return { node: i + 1, endpoint, role: i === 1 ? 'leader' : 'standby', term: i === 1 ? 4711 : null };
          }),
        };
      case 'doctor':
        return { findings: FINDINGS.map((finding) => ({ ...finding, fixed: command.fix })), unreachable: [] };
    }
  }

  #nodes(): NodeStatusRow[] {
    return this.addresses.map((address, at) => {
      const id = at + 1;
      const leaving = id === this.#leaving;
      const out = id === this.out;
      return {
        id,
        address,
        sqlAddress: address,
        httpAddress: `127.0.0.1:${8080 + at}`,
        build: 'v0.1.0',
        startedAt: '2026-03-01T08:00:00.000Z',
        updatedAt: '2026-03-01T09:30:00.250Z',
        locality: `zone=${'abca'[at]}`,
        attrs: 'ssd',
        startMode: 'start',
        isAvailable: !out,
        isLive: !out,
        isManager: id === 1,
        condition: out ? 'out' : 'live',
        state: leaving ? 'decommissioning' : 'active',
        replicas: id < 4 ? 12 : leaving ? Math.max(0, 2 - (this.#looks.get(12) ?? 0)) : 2,
        leaders: id < 4 ? 4 : leaving ? 0 : 1,
        isDecommissioning: leaving,
        isDraining: false,
        partitionsUnavailable: out ? 1 : 0,
        partitionsUnderReplicated: 0,
        bytes: 2.25 * GIB,
        measuredAgeMs: 1_200,
        diskTotalBytes: 100 * GIB,
        diskFreeBytes: 61.5 * GIB,
        disk: 'ok',
        replication: null,
      };
    });
  }

  #out(): { node: number; address: string; httpAddress: string } {
    const address = this.addresses[3] ?? '';
    return { node: this.outId, address, httpAddress: address };
  }

  #partitions(): PartitionRow[] {
    const row = (pid: number, node: number, role: 'leader' | 'follower'): PartitionRow => ({
      table: 'acct',
      tid: 4,
      pid,
      node,
      endpoint: this.addresses[node - 1] ?? '',
      role,
      state: 'ready',
      isAlive: node !== this.out,
      durability: role === 'leader' ? ('quorum' as const) : null,
      why: null,
      epoch: 2,
      offset: role === 'leader' ? '0/3A01F2C8' : '0/3A01F260',
      lagBytes: role === 'leader' ? 0 : 104,
      rows: 31_250,
      bytes: 4.5 * MIB,
      measuredAgeMs: 1_200,
    });
    return [row(0, 1, 'leader'), row(0, 2, 'follower'), row(1, 2, 'leader'), row(1, 3, 'follower')];
  }

  #begin(kind: string, { table, pids }: { table: string; pids: number[] }, nodes: string): { operations: number[] } {
    const operations = pids.map((_, at) => 17 + at);
    for (const [at, id] of operations.entries())
      this.#begun.set(id, {
        kind,
        subject: `${table} ${pids[at]}${nodes}`,
        bytesTotal: kind === 'remove-replica' ? 0 : 164 * MIB,
      });
    return { operations };
  }

  #opList(): OperationRow[] {
    return [this.#opShow(12), CHANGED].toSorted((a, b) => a.id - b.id);
  }

  #events(): EventRow[] {
    const event = (seq: number, at: string, kind: string, node: number | null, operation: number, text: string) => {
      return { seq, at: `2026-03-01T${at}.000Z`, kind, node, operation, text };
    };
    return [
      event(1, '08:00:00', 'node-joined', 1, 1, `node 1 at ${this.addresses[0]}`),
      event(2, '09:28:03', 'leader-changed', 2, 11, '4/3: node 1 → node 2'),
      event(3, '09:28:03', 'operation-done', null, 11, `${CHANGED.kind} ${CHANGED.subject}`),
      event(4, '09:29:01', 'node-decommissioning', 4, 12, 'node 4 gives its replicas away'),
    ];
  }

  #opShow(id: number): OperationResult {
    if (id > 99) throw tideError('OP_UNKNOWN', { id });
    const look = (this.#looks.get(id) ?? 0) + 1;
    this.#looks.set(id, look);
    return this.#operation(id);
  }

  #operation(id: number): OperationResult {
    const look = this.#looks.get(id) ?? 1;
    const waits = look <= this.waitingLooks;
    const done = look - this.waitingLooks > 2;
    const { kind, subject, bytesTotal, undone = false } = must(this.#begun.get(id), `operation ${id}`);
    const at = stepUnderWay(kind, waits);
    const steps = stepsOf(kind);
    const share = done ? 1 : look - this.waitingLooks > 1 ? 0.43 : 0;
    const bytesDone = Math.round(share * bytesTotal);
    const isPlan = bytesTotal > 0 && steps[at]?.name === 'move-replicas';
    const running = Math.floor(100 * (isPlan ? share : Math.max(at / steps.length, share * 0.6)));
    const speaks = share > 0 && !done && bytesTotal > 0;
    return {
      id,
      parent: null,
      kind,
      subject,
      status: done ? (undone ? 'cancelled' : this.ending) : undone ? 'undoing' : 'running',
      step: done ? null : (steps[at]?.name ?? null),
      percent: done ? 100 : running,
      bytesDone,
      bytesTotal,
      bytesPerSecond: speaks ? PER_SECOND : null,
      secondsLeft: speaks ? Math.ceil((bytesTotal - bytesDone) / PER_SECOND) : null,
      waitsFor: waits ? (isPlan ? waitFor('children', '2 moves under way, 4 planned') : BLOCKER) : null,
      createdAt: '2026-03-01T09:29:00.000Z',
      startedAt: '2026-03-01T09:29:01.000Z',
      endedAt: done ? '2026-03-01T09:30:14.000Z' : null,
      error: done && this.ending === 'failed' ? FAILURE.toBody() : null,
      steps: steps.map(({ name, noReturn = false }, index) => ({
        name,
        status: index < at || done ? 'done' : index === at ? 'running' : 'pending',
        noReturn,
      })),
      children: isPlan ? [{ ...MOVED, parent: id }] : [],
      pauses: [
        {
          table: 'acct',
          pid: 3,
          node: 4,
          purpose: 'leader',
          outcome: 'done',
          pauseMs: 11.4,
          at: '2026-03-01T09:29:40.000Z',
        },
      ],
      pauseMs: { count: 1, p50: 11.4, p99: 11.4, max: 11.4 },
      plan: null,
      claims: kind === 'move-replica' ? [{ kind: 'replica-table', node: 4, name: partitionTable(4, 3) }] : [],
    };
  }
}

interface Operation {
  kind: string;
  subject: string;
  bytesTotal: number;
  /** It was cancelled. */
  undone?: boolean;
}

/** Those that the commands start, under the numbers that they answer with. */
const OPERATIONS: Record<number, Operation> = {
  12: { kind: 'decommission', subject: 'node 4', bytesTotal: PLANNED },
  13: { kind: 'rebalance', subject: 'asked for by scale out', bytesTotal: PLANNED },
  14: { kind: 'drain-node', subject: 'node 2', bytesTotal: 0 },
  15: { kind: 'create-table', subject: 'acct', bytesTotal: 0 },
  16: { kind: 'drop-table', subject: 'acct', bytesTotal: 0 },
  17: { kind: 'move-replica', subject: 'acct 3: n1 → n4', bytesTotal: 164 * MIB },
  24: { kind: 'decommission', subject: 'node 4', bytesTotal: PLANNED, undone: true },
  25: { kind: 'drain-node', subject: 'node 2 takes leaders again', bytesTotal: 0 },
  26: { kind: 'change-leader', subject: 'acct 3: leader n1 → n2', bytesTotal: 0 },
  27: { kind: 'failover', subject: 'node 3', bytesTotal: 0 },
  28: { kind: 'recover-node', subject: 'node 3', bytesTotal: 0 },
  29: { kind: 'drop-node', subject: 'node 3', bytesTotal: 0 },
  30: { kind: 'failover', subject: 'node 1', bytesTotal: 0 },
};

/** The longest step of each kind. */
const LONGEST: Record<string, string> = {
  'add-replica': 'copy-rows',
  'change-leader': 'swing',
  'create-table': 'create-replicas',
  decommission: 'move-replicas',
  'drain-node': 'move-leaders',
  'drop-node': 'forget-node',
  'drop-table': 'drop-everywhere',
  failover: 'settle-operations',
  'move-replica': 'copy-rows',
  rebalance: 'move-replicas',
  'recover-node': 'demote',
  'remove-replica': 'stop-streams',
};

const stepsOf = (kind: string) => must(OPERATION_KINDS.get(kind), `kind ${kind}`).steps;

/** Its longest; a copy that waits has not begun. */
function stepUnderWay(kind: string, waits: boolean): number {
  const at = stepsOf(kind).findIndex((step) => step.name === LONGEST[kind]);
  if (at < 0) throw new Error(`no step of ${kind}: ${LONGEST[kind]}`);
  return waits && LONGEST[kind] === 'copy-rows' ? at - 1 : at;
}

function setting(key: keyof Settings, value: SettingValue): SettingRow {
  const spec = SETTINGS[key];
  const { description } = spec;
  return { key, value: showSetting(key, value), default: showSetting(key, spec.default), description };
}

/** An operation that has ended. */
const ended = (id: number, parent: number | null, kind: string, subject: string, bytes: number): OperationRow => ({
  id,
  parent,
  kind,
  subject,
  status: 'done',
  step: null,
  percent: 100,
  bytesDone: bytes,
  bytesTotal: bytes,
  bytesPerSecond: null,
  secondsLeft: null,
  waitsFor: null,
  createdAt: '2026-03-01T09:28:00.000Z',
  startedAt: '2026-03-01T09:28:00.000Z',
  endedAt: '2026-03-01T09:28:03.000Z',
  error: null,
});

const CHANGED = ended(11, null, 'change-leader', 'acct 3: leader n1 → n2', 0);
const MOVED = ended(31, null, 'move-replica', 'acct 3: n4 → n1', 164 * MIB);

function lastCopies(node: number, count: number) {
  const pids = Array.from({ length: count }, (_, pid) => pid);
  return { node, partitions: pids.map((pid) => `acct ${pid}`), accept: pids.map((pid) => `acct/${pid}`).join() };
}

const FAILURE = tideError('DISK_FULL', { node: 2, freePercent: 2.4 });

const BLOCKER = {
  ...waitForTransaction(
    defaultSettings(),
    1,
    {
      processId: 4711,
      user: 'app',
      application: 'psql',
      state: 'idle in transaction',
      query: 'UPDATE acct SET balance = 0 WHERE id = 7',
      ageMs: 62_000,
    },
    'a replication slot starts when it ends',
  ),
  kind: 'slot' as const,
};

const LOCAL_TABLES = tideError('LOCAL_TABLES', { node: 3, count: 1, rows: 3, bytes: 16_384, found: [NOTES] });

const LEAVES = 'node 4 is being decommissioned';

const PLAN: PlanResult = {
  moves: [
    { kind: 'move-replica', table: 'acct', pid: 3, from: 4, to: 1, bytes: 164 * MIB, reason: LEAVES },
    { kind: 'move-replica', table: 'acct', pid: 5, from: 4, to: 2, bytes: 160 * MIB, reason: LEAVES },
  ],
  balance: [balance(1, 12, 13, 4, 4), balance(2, 12, 13, 4, 5), balance(3, 12, 12, 4, 4), balance(4, 2, 0, 1, 0)],
  bytesMoved: PLANNED,
  bytesMinimal: PLANNED,
  blocked: [],
};

const BALANCING: PlanResult = {
  moves: [
    {
      kind: 'move-replica',
      table: 'acct',
      pid: 3,
      from: 1,
      to: 4,
      bytes: 164 * MIB,
      reason: 'node 4 holds 7 replicas, the mean is 9',
    },
    {
      kind: 'move-replica',
      table: 'acct',
      pid: 6,
      from: 3,
      to: 4,
      bytes: 160 * MIB,
      reason: 'node 4 holds 8 replicas, the mean is 9',
    },
    {
      kind: 'change-leader',
      table: 'acct',
      pid: 5,
      from: 2,
      to: 4,
      bytes: 0,
      reason: 'node 2 leads 4 partitions, the mean is 3',
    },
  ],
  balance: [balance(1, 10, 9, 3, 3), balance(2, 9, 9, 4, 3), balance(3, 10, 9, 3, 3), balance(4, 7, 9, 2, 3)],
  bytesMoved: PLANNED,
  bytesMinimal: 320 * MIB,
  blocked: [],
};

function balance(
  node: number,
  replicasBefore: number,
  replicasAfter: number,
  leadersBefore: number,
  leadersAfter: number,
) {
  const [bytesBefore, bytesAfter] = [replicasBefore * 162 * MIB, replicasAfter * 162 * MIB];
  return { node, replicasBefore, replicasAfter, leadersBefore, leadersAfter, bytesBefore, bytesAfter };
}

const BLOCKED: PlanResult['blocked'] = [
  { table: 'acct', pid: 7, node: 4, why: '0 of 3 live nodes can take a replica of acct 7 (3 already hold it)' },
];

const TABLES = [
  {
    tid: 4,
    schema: 'public',
    name: 'acct',
    state: 'ready',
    distributeBy: 'id',
    partitions: 16,
    replicas: 3,
    rows: 500_000,
    bytes: 72.4 * MIB,
    measuredAgeMs: 1_900,
  },
  {
    tid: 5,
    schema: 'public',
    name: 'city',
    state: 'creating',
    distributeBy: 'id',
    partitions: 8,
    replicas: 3,
    rows: null,
    bytes: null,
    measuredAgeMs: null,
  },
];

const FINDINGS = [
  {
    node: 3,
    kind: 'subscription',
    name: subscriptionName(1, 3),
    why: 'no partition is shared with that node',
    fixed: false,
  },
];
