import type { NodeStatusRow, OperationRow, PartitionRow } from '../api/results.ts';
import { humanBytes } from '../core/units.ts';

/** One moment of the run, to be drawn. */
export interface View {
  /** `scale out`, `four nodes`, … */
  readonly phase: string;
  readonly elapsedMs: number;
  readonly nodes: readonly NodeStatusRow[];
  readonly partitions: readonly PartitionRow[];
  /** Operations that are queued or running. */
  readonly operations: readonly OperationRow[];
  readonly traffic: TrafficLine | null;
}

export interface TrafficLine {
  readonly perSecond: number;
  readonly statements: number;
  readonly failed: number;
  readonly incompleteReads: number;
  readonly acknowledged: number;
  readonly p99Ms: number;
}

export interface Style {
  readonly width: number;
  readonly colours: boolean;
}

type Paint = (text: string, colour: keyof typeof COLOURS) => string;

const COLOURS = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33', blue: '34', cyan: '36' } as const;
const CELLS = { leader: '◆', follower: '○', copying: '▸', leaving: '◌', none: '·' } as const;
const CELL_COLOURS = { leader: 'green', follower: 'blue', copying: 'yellow', leaving: 'dim', none: 'dim' } as const;
const BAR_CELLS = 24;
const NAME_WIDTH = 40;
const OPERATIONS_SHOWN = 6;

/** The live picture: partitions on nodes, running operations, traffic. A pure function of the moment. */
export function render(view: View, style: Style): string[] {
  const paint: Paint = (text, colour) => (style.colours ? `\x1b[${COLOURS[colour]}m${text}\x1b[0m` : text);
  const lines = [
    '',
    `${paint(view.phase, 'bold')}  ${paint(clock(view.elapsedMs), 'dim')}`,
    ...picture(view, paint),
    ...operations(view.operations, paint),
    ...(view.traffic ? [trafficLine(view.traffic, paint)] : []),
  ];
  return lines.map((line) => cut(line, style.width));
}

/** One row per node, one cell per partition. */
function picture({ nodes, partitions }: View, paint: Paint): string[] {
  const present = nodes.filter((n) => n.isLive || n.replicas > 0).sort((a, b) => a.id - b.id);
  if (present.length === 0) return [];
  const tables = tablesOf(partitions);
  const heads = tables.map((t) => t.name.padEnd(Math.max(t.name.length, t.pids * 2)));
  const head = `${'node'.padEnd(8)}${heads.join('  ')}  replicas  leaders       size`;
  const rows = present.map((node) => {
    const groups = tables.map((t, index) => {
      const cells = Array.from({ length: t.pids }, (_, pid) => cellOf(t.byPlace.get(`${pid}@${node.id}`)));
      const drawn = cells.map((cell) => paint(CELLS[cell], CELL_COLOURS[cell])).join(' ');
      return drawn + ' '.repeat(Math.max(0, (heads[index]?.length ?? 0) - (t.pids * 2 - 1)));
    });
    const figures = [
      String(node.replicas).padStart(8),
      String(node.leaders).padStart(7),
      humanBytes(node.bytes).padStart(9),
    ];
    const note = nodeNote(node);
    return `${`n${node.id}`.padEnd(8)}${groups.join('  ')}  ${figures.join('  ')}${note && `  ${paint(note, 'cyan')}`}`;
  });
  const legend = `${CELLS.leader} leader  ${CELLS.follower} follower  ${CELLS.copying} being copied  ${CELLS.leaving} leaving  ${CELLS.none} not here`;
  return [paint(head, 'dim'), ...rows, paint(`${' '.repeat(8)}${legend}`, 'dim')];
}

interface TableCells {
  readonly name: string;
  pids: number;
  /** By `pid@node`. */
  readonly byPlace: Map<string, PartitionRow>;
}

function tablesOf(partitions: readonly PartitionRow[]): TableCells[] {
  const tables = new Map<number, TableCells>();
  for (const row of partitions) {
    const table = tables.get(row.tid) ?? { name: row.table, pids: 0, byPlace: new Map() };
    table.pids = Math.max(table.pids, row.pid + 1);
    table.byPlace.set(`${row.pid}@${row.node}`, row);
    tables.set(row.tid, table);
  }
  return [...tables.entries()].sort(([a], [b]) => a - b).map(([, table]) => table);
}

function cellOf(row: PartitionRow | undefined): keyof typeof CELLS {
  if (!row) return 'none';
  if (row.state === 'leaving') return 'leaving';
  if (row.state !== 'ready') return 'copying';
  return row.role;
}

function nodeNote(node: NodeStatusRow): string {
  const notes = [
    node.isManager ? 'manager' : null,
    node.isLive ? null : 'stopped',
    node.isDecommissioning ? 'being decommissioned' : node.state === 'active' ? null : node.state,
  ];
  return notes.filter((note) => note !== null).join(', ');
}

/** Operations that move data come first; a parent only where none of its children is shown. */
function operations(rows: readonly OperationRow[], paint: Paint): string[] {
  const running = rows.filter((o) => o.status === 'running' || o.status === 'undoing');
  const parents = new Set(running.map((o) => o.parent));
  const shown = running.filter((o) => o.parent === null || !parents.has(o.id)).slice(0, OPERATIONS_SHOWN);
  const queued = rows.filter((o) => o.status === 'queued').length;
  const more = queued > 0 ? [paint(`        ${queued} more waiting their turn`, 'dim')] : [];
  return [...shown.map((o) => operationLine(o, paint)), ...more];
}

/** `move-replica cities 3: n1 → n4   ████████░░░░  62 %  3.1 MiB/s  2 s left` */
function operationLine(op: OperationRow, paint: Paint): string {
  const full = Math.round((Math.min(100, op.percent) / 100) * BAR_CELLS);
  const bar = paint('█'.repeat(full), 'green') + paint('░'.repeat(BAR_CELLS - full), 'dim');
  const figures = [
    `${bar} ${String(Math.floor(op.percent)).padStart(3)} %`,
    op.bytesPerSecond === null || op.bytesPerSecond < 1 ? null : `${humanBytes(op.bytesPerSecond)}/s`,
    op.secondsLeft === null ? null : `${Math.ceil(op.secondsLeft)} s left`,
    op.waitsFor === null || op.waitsFor.kind === 'children' ? op.step : paint(`waits: ${op.waitsFor.text}`, 'yellow'),
  ];
  const name = `${op.kind} ${op.subject}`;
  const fitting = name.length > NAME_WIDTH ? `${name.slice(0, NAME_WIDTH - 1)}…` : name.padEnd(NAME_WIDTH);
  return `${fitting} ${figures.filter((f) => f !== null).join('  ')}`;
}

function trafficLine(traffic: TrafficLine, paint: Paint): string {
  const n = (value: number) => value.toLocaleString('en-US');
  const bad = (value: number, what: string) => paint(`${n(value)} ${what}`, value === 0 ? 'green' : 'red');
  return [
    `traffic ${n(Math.round(traffic.perSecond))}/s`,
    `${n(traffic.statements)} statements`,
    bad(traffic.failed, 'failed'),
    bad(traffic.incompleteReads, 'incomplete'),
    `${n(traffic.acknowledged)} writes acknowledged`,
    `p99 ${traffic.p99Ms.toFixed(0)} ms`,
  ].join('  ·  ');
}

/** `01:23` */
export function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${String(seconds % 60).padStart(2, '0')}`;
}

/** Cuts a line to `width` characters that show; colours take no room. */
function cut(line: string, width: number): string {
  let shown = 0;
  let text = '';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence begins with one
  for (const part of line.match(/\x1b\[\d+m|[^\x1b]/gu) ?? []) {
    const visible = !part.startsWith('\x1b');
    if (visible && shown === width) continue;
    if (visible) shown += 1;
    text += part;
  }
  return text;
}
