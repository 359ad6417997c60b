import type { AdminCommand } from '../../../../src/api/commands.ts';
import type {
  NodeStatusRow,
  OperationResult,
  OperationRow,
  PartitionRow,
  PlanResult,
} from '../../../../src/api/results.ts';
import { tideError } from '../../../../src/core/errors.ts';
import type { WaitReason } from '../../../../src/core/wait-reason.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

/** Four nodes, two tables and operations that advance each time they are looked at. */
export class World {
  readonly addresses: readonly string[];
  /** How operations end. */
  ending: 'done' | 'failed' | 'cancelled' = 'done';
  /** Looks during which operation 12 waits for a transaction. */
  waitingLooks = 0;
  /** A node that is out, leads acct 1 and has nobody to take its place. */
  out: number | null = null;
  #looks = new Map<number, number>();
  #leaving = 0;

  constructor(addresses: readonly string[]) {
    this.addresses = addresses;
  }

  answer(command: AdminCommand): unknown {
    switch (command.do) {
      case 'node-status':
        return this.#nodes();
      case 'node-decommission':
      case 'scale-in':
        if (command.dryRun) return { operation: null, plan: PLAN };
        this.#leaving = 4;
        return { operation: 12, plan: null };
      case 'scale-out':
        return command.dryRun ? { operation: null, plan: PLAN } : { operation: 13, plan: null };
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
        return { operation: 29, plan: null };
      case 'node-undrain':
        return { operation: 25, plan: null };
      case 'plan':
        return command.remove || this.out !== null ? { ...PLAN, blocked: BLOCKED } : PLAN;
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
      case 'partition-add-replica':
      case 'partition-del-replica':
        return { operations: command.pids.map((_, at) => 17 + at) };
      case 'partition-change-leader':
        return { operations: [26] };
      case 'op-ls':
        return this.#opList(command.all);
      case 'op-show':
        return this.#opShow(command.id);
      case 'op-cancel':
        return { ...this.#operation(command.id), status: 'undoing', step: 'wait-for-catchup' };
      case 'events':
        return EVENTS.filter((event) => event.seq > command.after);
      case 'setting-ls':
        return SETTINGS;
      case 'setting-set':
        return { ...SETTINGS[0], value: command.value };
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
        replicas: leaving ? Math.max(0, 12 - 6 * (this.#looks.get(12) ?? 0)) : 12,
        leaders: leaving ? 0 : 4,
        isDecommissioning: leaving,
        isDraining: leaving,
        partitionsUnavailable: out ? 1 : 0,
        partitionsUnderReplicated: 0,
        bytes: 2.25 * GIB,
        diskTotalBytes: 100 * GIB,
        diskFreeBytes: 61.5 * GIB,
        disk: 'ok',
      };
    });
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
      epoch: 2,
      offset: role === 'leader' ? '0/3A01F2C8' : '0/3A01F260',
      lagBytes: role === 'leader' ? 0 : 104,
      rows: 31_250,
      bytes: 4.5 * MIB,
    });
    return [row(0, 1, 'leader'), row(0, 2, 'follower'), row(1, 2, 'leader'), row(1, 3, 'follower')];
  }

  #opList(all: boolean): OperationRow[] {
    const known = [...this.#looks.keys()];
    const running = this.#opShow(12);
    const ended: OperationRow = { ...running, ...DONE, id: 11, kind: 'change-leader', subject: 'acct 3: n1 → n2' };
    return all || known.length > 1 ? [ended, running] : [running];
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
    const { kind, subject } = KINDS[id] ?? { kind: 'migrate', subject: `acct ${id - 16}: n1 → n4` };
    const copies = id === 12 || id === 13 || id === 24 || (id >= 17 && id < 24);
    const bytesTotal = copies ? 2.5 * GIB : 0;
    const percent = done ? 100 : look === 1 ? 0 : 43;
    return {
      id,
      parent: null,
      kind,
      subject,
      status: done ? (id === 24 ? 'cancelled' : this.ending) : id === 24 ? 'undoing' : 'running',
      step: done ? null : waits || !copies ? 'change-leader' : 'copy',
      percent,
      bytesDone: (percent / 100) * bytesTotal,
      bytesTotal,
      bytesPerSecond: look === 1 || done || !copies ? null : 84 * MIB,
      secondsLeft: look === 1 || done || !copies ? null : 17,
      waitsFor: waits ? BLOCKER : null,
      createdAt: '2026-03-01T09:29:00.000Z',
      startedAt: '2026-03-01T09:29:01.000Z',
      endedAt: done ? '2026-03-01T09:30:14.000Z' : null,
      error: done && this.ending === 'failed' ? FAILURE : null,
      steps: STEPS,
      children: [],
      pauses: [
        {
          table: 'acct',
          pid: 3,
          node: 1,
          purpose: 'leader',
          outcome: 'done',
          pauseMs: 11.42,
          at: '2026-03-01T09:29:40.000Z',
        },
      ],
      pauseMs: { count: 1, p50: 11.4, p99: 11.4, max: 11.4 },
      plan: null,
      claims: [{ kind: 'table', node: 4, name: 'tide_data.t4_p3' }],
    };
  }
}

const KINDS: Record<number, { kind: string; subject: string }> = {
  12: { kind: 'decommission', subject: 'nodes 4' },
  13: { kind: 'rebalance', subject: '5 moves' },
  14: { kind: 'drain', subject: 'node 2' },
  15: { kind: 'create-table', subject: 'acct' },
  16: { kind: 'drop-table', subject: 'acct' },
  24: { kind: 'decommission', subject: 'nodes 4' },
  25: { kind: 'undrain', subject: 'node 2' },
  27: { kind: 'failover', subject: 'node 3' },
  30: { kind: 'failover', subject: 'node 1' },
  28: { kind: 'recover-node', subject: 'node 3' },
  29: { kind: 'drop-node', subject: 'node 3' },
  26: { kind: 'change-leader', subject: 'acct 3: n1 → n2' },
};

const DONE = {
  status: 'done' as const,
  step: null,
  percent: 100,
  bytesDone: 0,
  bytesTotal: 0,
  endedAt: '2026-03-01T09:28:03.000Z',
};

const FAILURE = {
  code: 'DISK_FULL',
  message: 'node 2 ran out of disk (0 B free) at copy',
  hint: 'make room on node 2 and repeat the command',
};

const BLOCKER: WaitReason = {
  kind: 'transaction',
  text: 'transaction of app (pid 4711 on n1, open for 62 s)',
  node: 1,
  pid: 4711,
  user: 'app',
  query: 'UPDATE acct SET balance = 0 WHERE id = 7',
  ageSeconds: 62,
};

const STEPS: OperationResult['steps'] = [
  { name: 'copy', status: 'done', noReturn: false },
  { name: 'change-leader', status: 'running', noReturn: true },
  { name: 'remove-source', status: 'pending', noReturn: false },
];

const PLAN: PlanResult = {
  moves: [
    { kind: 'migrate', table: 'acct', pid: 3, from: 4, to: 1, bytes: 164 * MIB, reason: 'n4 is decommissioning' },
    { kind: 'change-leader', table: 'acct', pid: 5, from: 4, to: 2, bytes: 0, reason: 'n4 is decommissioning' },
  ],
  balance: [
    {
      node: 1,
      replicasBefore: 12,
      replicasAfter: 16,
      leadersBefore: 4,
      leadersAfter: 6,
      bytesBefore: 2 * GIB,
      bytesAfter: 2.7 * GIB,
    },
    {
      node: 4,
      replicasBefore: 12,
      replicasAfter: 0,
      leadersBefore: 4,
      leadersAfter: 0,
      bytesBefore: 2 * GIB,
      bytesAfter: 0,
    },
  ],
  bytesMoved: 164 * MIB,
  bytesMinimal: 160 * MIB,
  blocked: [],
};

const BLOCKED: PlanResult['blocked'] = [
  { table: 'acct', pid: 3, node: 4, why: '0 of 3 live nodes can take it (3 already hold it)' },
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
  },
];

const EVENTS = [
  {
    seq: 1,
    at: '2026-03-01T08:00:00.000Z',
    kind: 'node_join',
    node: 1,
    operation: null,
    text: 'node 1 started a new cluster',
  },
  {
    seq: 2,
    at: '2026-03-01T09:29:01.000Z',
    kind: 'node_decommission',
    node: 4,
    operation: 12,
    text: 'node 4 is decommissioning',
  },
];

const SETTINGS = [
  { key: 'rebalance.auto', value: 'on', default: 'on', description: 'move data by itself when nodes join' },
  { key: 'move.max_pause', value: '200', default: '200', description: 'longest pause of writes to a partition, ms' },
  { key: 'durability', value: 'quorum', default: 'quorum', description: 'where an acknowledged commit is on disk' },
];

const FINDINGS = [
  { node: 3, kind: 'subscription', name: 's_1_3', why: 'no operation and no placement needs it', fixed: false },
];
