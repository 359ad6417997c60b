import type {
  ClusterView,
  LoadView,
  NodeLoad,
  NodeRecord,
  Partition,
  Replica,
  TableRecord,
} from '../../../src/catalog/model.ts';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { partitionKey, tableName } from '../../../src/catalog/view.ts';
import type { TideError } from '../../../src/core/errors.ts';
import type { LocalData } from '../../../src/core/local-data.ts';
import { placeNewTable } from '../../../src/placement/initial.ts';
import type { Move } from '../../../src/placement/moves.ts';
import { type Goal, type Plan, plan, planNext } from '../../../src/placement/plan.ts';
import { type Checks, type MoveRequest, preflightMove, preflightScaleIn } from '../../../src/placement/preflight.ts';
import { withAddedNodes, withDecommissioning } from '../../../src/placement/whatif.ts';

/**
 * A cluster described in lines, and questions about it. Every line is a command:
 *
 *   node 1 zone=a disk=100/40 decommissioning|draining|dead     GB in all / free
 *   table acct partitions=8 replicas=3 on=1,2,3 mb=100           replicas dealt out in turn over `on`
 *   partition acct 3 on=2,1,4:stale mb=7                          leader first
 *   set min_nodes 2
 *   plan balance|repair|+2|-3,4      next balance running=0:1>4    place partitions=4 replicas=2
 *   local 3 notes rows=7                                         an ordinary table
 *   scale-in 3,4 [strict|skip]       move add-replica acct 3 to=4
 */
export class Script {
  #nodes = new Map<number, NodeRecord>();
  #loads = new Map<number, NodeLoad>();
  #tables = new Map<number, TableRecord>();
  #bytes = new Map<string, number>();
  #settings = defaultSettings();
  #local = new Map<number, LocalData[]>();

  get view(): ClusterView {
    return {
      revision: 0,
      clusterId: 'c',
      startMode: 'start',
      nodes: this.#nodes,
      tables: this.#tables,
      settings: this.#settings,
    };
  }

  get load(): LoadView {
    return { nodes: this.#loads, partitionBytes: this.#bytes };
  }

  /** Runs one line; the answer's lines, none for a description. */
  run(line: string): string[] {
    const [verb = '', ...words] = line.split(/\s+/);
    const flags = Object.fromEntries(words.filter((w) => w.includes('=')).map((w) => w.split('=') as [string, string]));
    const plain = words.filter((w) => !w.includes('='));
    switch (verb) {
      case 'node':
        for (const id of numbers(plain[0])) this.#node(id, plain.slice(1), flags);
        return [];
      case 'table':
        this.#table(plain[0] ?? '', flags);
        return [];
      case 'partition':
        this.#partition(plain[0] ?? '', Number(plain[1]), flags);
        return [];
      case 'set':
        this.#settings = { ...this.#settings, [plain[0] ?? '']: Number(plain[1]) };
        return [];
      case 'plan':
        return this.#plan(plain[0] ?? 'balance');
      case 'next':
        return this.#next(plain[0] as 'balance' | 'repair', flags);
      case 'place':
        return this.#place(Number(flags.partitions), Number(flags.replicas));
      case 'scale-in':
        return verdict(
          preflightScaleIn(this.view, this.load, numbers(plain[0]), (plain[1] ?? 'enabled') as Checks, this.#local),
        );
      case 'local':
        this.#hold(numbers(plain[0]), plain[1] ?? '', flags);
        return [];
      case 'move':
        return this.#move(plain, flags);
      default:
        throw new Error(`unknown command: ${line}`);
    }
  }

  #node(id: number, words: string[], flags: Record<string, string>): void {
    const [total, free] = (flags.disk ?? '0/0').split('/').map((gb) => Number(gb) * 1e9);
    const locality = ['region', 'zone', 'rack'].flatMap((key) => (flags[key] ? [{ key, value: flags[key] }] : []));
    const state = words.includes('decommissioning')
      ? 'decommissioning'
      : words.includes('joining')
        ? 'joining'
        : 'active';
    this.#nodes.set(id, nodeRecord(id, { state, draining: words.includes('draining'), locality }));
    const alive = !words.includes('dead');
    this.#loads.set(id, { node: id, alive, diskTotalBytes: total ?? 0, diskFreeBytes: free ?? 0 });
  }

  #hold(nodes: number[], name: string, flags: Record<string, string>): void {
    const rows = Number(flags.rows);
    const found = {
      database: 'tide',
      schema: 'public',
      name,
      kind: 'table' as const,
      rows,
      estimated: false,
      bytes: rows * 64,
    };
    for (const id of nodes) this.#local.set(id, [...(this.#local.get(id) ?? []), found]);
  }

  #table(name: string, flags: Record<string, string>): void {
    const tid = this.#tables.size + 1;
    const on = numbers(flags.on);
    const replicas = Number(flags.replicas ?? 3);
    const partitions = Array.from({ length: Number(flags.partitions) }, (_, pid): Partition => {
      this.#bytes.set(partitionKey(tid, pid), Number(flags.mb ?? 0) * 1e6);
      const holders = Array.from({ length: replicas }, (_, r) => on[(pid + r) % on.length] ?? 0);
      return partition(
        tid,
        pid,
        holders.map((node) => ({ node, state: 'ready' })),
      );
    });
    this.#tables.set(tid, tableRecord(tid, name, replicas, partitions));
  }

  #find(name: string): TableRecord {
    const table = [...this.#tables.values()].find((t) => t.name === name);
    if (!table) throw new Error(`no table ${name}`);
    return table;
  }

  #partition(name: string, pid: number, flags: Record<string, string>): void {
    const table = this.#find(name);
    if (flags.mb) this.#bytes.set(partitionKey(table.tid, pid), Number(flags.mb) * 1e6);
    if (!flags.on) return;
    const replicas = flags.on.split(',').map((word) => {
      const [node, state = 'ready'] = word.split(':');
      return { node: Number(node), state: state as Replica['state'] };
    });
    const partitions = table.partitions.with(pid, partition(table.tid, pid, replicas));
    this.#tables.set(table.tid, { ...table, partitions });
  }

  #plan(what: string): string[] {
    if (what.startsWith('+')) {
      const { view, load } = withAddedNodes(this.view, this.load, Number(what));
      return this.#print(plan(view, load, { kind: 'balance' }));
    }
    if (what.startsWith('-')) {
      return this.#print(plan(withDecommissioning(this.view, numbers(what.slice(1))), this.load, { kind: 'balance' }));
    }
    return this.#print(plan(this.view, this.load, { kind: what } as Goal));
  }

  #print(result: Plan): string[] {
    const lines = result.moves.map((m) => `${this.#show(m)} (${m.reason})`);
    for (const b of result.blocked) lines.push(`blocked: ${b.why}`);
    if (lines.length === 0) return ['nothing to do'];
    const mb = (bytes: number) => Math.round(bytes / 1e6);
    lines.push(`moves ${mb(result.bytesMoved)} MB, at least ${mb(result.bytesMinimal)} MB`);
    const nodes = result.after.nodes.map((n) => `n${n.node} ${n.replicas}/${n.leaders}/${mb(n.bytes)}`);
    return [...lines, `replicas/leaders/MB: ${nodes.join('  ')}`];
  }

  #show(move: Move): string {
    const table = this.#tables.get(move.tid);
    const from = 'from' in move ? ` n${move.from}` : '';
    const to = 'to' in move ? ` → n${move.to}` : '';
    return `${move.kind} ${table ? tableName(table) : move.tid} ${move.pid}:${from}${to}`;
  }

  #next(kind: 'balance' | 'repair', flags: Record<string, string>): string[] {
    const running = (flags.running ?? '').split(',').filter(Boolean);
    const moves = running.map((word, operation) => {
      const [, pid, from, to] = /^(\d+):(\d+)>(\d+)$/.exec(word) ?? [];
      const [tid = 0] = this.#tables.keys();
      const bytes = this.#bytes.get(partitionKey(tid, Number(pid))) ?? 0;
      const place = { tid, pid: Number(pid), from: Number(from), to: Number(to) };
      return { operation, move: { kind: 'move-replica' as const, ...place, bytes, reason: '' } };
    });
    const next = planNext(this.view, this.load, { kind }, moves);
    return [
      ...next.start.map((m) => `start ${this.#show(m)}`),
      ...next.waiting.map((w) => `wait ${this.#show(w.move)} (${w.because})`),
      ...next.blocked.map((b) => `blocked: ${b.why}`),
    ];
  }

  #place(partitionCount: number, replicaCount: number): string[] {
    const placed = placeNewTable(this.view, this.load, { partitionCount, replicaCount });
    return placed.map((p, pid) => `${pid}: leader n${p.leader} of ${p.nodes.map((n) => `n${n}`).join(' ')}`);
  }

  #move(words: string[], flags: Record<string, string>): string[] {
    const [kind, table = '', pid] = words;
    const ends = Object.fromEntries(Object.entries(flags).map(([end, id]) => [end, Number(id)]));
    const request = { kind, tid: this.#find(table).tid, pid: Number(pid), ...ends } as MoveRequest;
    return verdict(preflightMove(this.view, this.load, request));
  }
}

function verdict(errors: readonly TideError[]): string[] {
  return errors.length === 0 ? ['ok'] : errors.map((e) => `${e.code}: ${e.message}`);
}

/** `1-3,7` */
function numbers(text = ''): number[] {
  return text.split(',').flatMap((part) => {
    const [low = 0, high = low] = part.split('-').map(Number);
    return Array.from({ length: high - low + 1 }, (_, i) => low + i);
  });
}

export function nodeRecord(id: number, more: Partial<NodeRecord> = {}): NodeRecord {
  const address = `host${id}:26257`;
  return {
    id,
    state: 'active',
    draining: false,
    address,
    httpAddress: address,
    postgresHost: `host${id}`,
    postgresPort: 5432,
    locality: [],
    attrs: [],
    build: '0',
    startMode: 'start',
    startedAt: '2026-01-01T00:00:00Z',
    ...more,
  };
}

export function partition(tid: number, pid: number, replicas: readonly Replica[]): Partition {
  const sorted = [...replicas].sort((a, b) => a.node - b.node);
  return { tid, pid, epoch: 1, leader: replicas[0]?.node ?? 0, replicas: sorted };
}

export function tableRecord(
  tid: number,
  name: string,
  replicaCount: number,
  partitions: readonly Partition[],
): TableRecord {
  return {
    tid,
    schema: 'public',
    name,
    state: 'ready',
    distributeBy: 'id',
    partitionCount: partitions.length,
    replicaCount,
    definition: { columns: [], primaryKey: [], checks: [], indexes: [] },
    partitions,
  };
}
