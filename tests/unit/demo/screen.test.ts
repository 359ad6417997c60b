import { describe, expect, test } from 'vitest';
import type { NodeStatusRow, OperationRow, PartitionRow } from '../../../src/api/results.ts';
import { humanBytes } from '../../../src/core/units.ts';
import { render, type View } from '../../../src/demo/screen.ts';

const node = (id: number, changes: Partial<NodeStatusRow> = {}): NodeStatusRow => ({
  id,
  address: `127.0.0.1:${21_000 + id}`,
  sqlAddress: `127.0.0.1:${21_000 + id}`,
  httpAddress: `127.0.0.1:${22_000 + id}`,
  build: '0.1.0',
  startedAt: '2026-01-02T03:04:05.000Z',
  updatedAt: null,
  locality: '',
  attrs: '',
  startMode: 'start',
  isAvailable: true,
  isLive: true,
  isManager: false,
  state: 'active',
  condition: 'live',
  replicas: 4,
  leaders: 1,
  isDecommissioning: false,
  isDraining: false,
  partitionsUnavailable: 0,
  partitionsUnderReplicated: 0,
  bytes: 3_500_000,
  measuredAgeMs: null,
  diskTotalBytes: null,
  diskFreeBytes: null,
  disk: null,
  replication: null,
  ...changes,
});

const row = (
  table: string,
  tid: number,
  pid: number,
  on: number,
  role: 'leader' | 'follower',
  state = 'ready',
): PartitionRow => ({
  table,
  tid,
  pid,
  node: on,
  endpoint: `127.0.0.1:${21_000 + on}`,
  role,
  state,
  isAlive: true,
  durability: role === 'leader' ? ('quorum' as const) : null,
  why: null,
  epoch: 1,
  offset: null,
  lagBytes: 0,
  rows: null,
  bytes: null,
  measuredAgeMs: null,
});

const operation = (id: number, changes: Partial<OperationRow> = {}): OperationRow => ({
  id,
  parent: null,
  kind: 'move-replica',
  subject: 'cities 1: n1 → n4',
  status: 'running',
  step: 'copy',
  percent: 50,
  bytesDone: 1_000_000,
  bytesTotal: 2_000_000,
  bytesPerSecond: 3_250_586,
  secondsLeft: 0.4,
  waitsFor: null,
  createdAt: '2026-01-02T03:04:05.000Z',
  startedAt: null,
  endedAt: null,
  error: null,
  ...changes,
});

const view: View = {
  phase: 'scale out',
  elapsedMs: 83_400,
  nodes: [
    node(4, { state: 'joining', replicas: 1, leaders: 0, bytes: 0 }),
    node(1, { isManager: true, leaders: 2 }),
    node(2, { isDecommissioning: true, state: 'decommissioning' }),
  ],
  partitions: [
    row('cities', 1, 0, 1, 'leader'),
    row('cities', 1, 0, 2, 'follower'),
    row('cities', 1, 1, 1, 'follower', 'leaving'),
    row('cities', 1, 1, 2, 'leader'),
    row('cities', 1, 1, 4, 'follower', 'joining'),
    row('traffic', 2, 0, 1, 'leader'),
    row('traffic', 2, 0, 2, 'follower'),
  ],
  operations: [
    operation(11, { kind: 'scale-out', subject: '12 moves; first: node 4 holds 0 replicas' }),
    operation(12, { parent: 11 }),
    operation(13, {
      parent: 11,
      kind: 'change-leader',
      subject: 'cities 0: n1 → n2',
      percent: 0,
      bytesPerSecond: null,
      secondsLeft: null,
      waitsFor: {
        kind: 'transaction',
        text: 'the transaction of pid 4711, open for 3 s',
        node: 1,
        pid: 4711,
        user: 'tide',
        query: null,
        ageSeconds: 3,
      },
    }),
    operation(14, { parent: 11, status: 'queued' }),
  ],
  traffic: { perSecond: 211.6, statements: 12_345, failed: 0, incompleteReads: 2, acknowledged: 4_321, p99Ms: 12.4 },
};

describe('the live picture', () => {
  test('shows partitions on nodes, running operations and traffic', () => {
    expect(`\n${render(view, { width: 140, colours: false }).join('\n')}\n`).toMatchInlineSnapshot(`
      "

      scale out  01:23
      node    cities  traffic  replicas  leaders       size
      n1      ◆ ◌     ◆               4        2   3.34 MiB  manager
      n2      ○ ◆     ○               4        1   3.34 MiB  being decommissioned
      n4      · ▸     ·               1        0        0 B  joining
              ◆ leader  ○ follower  ▸ being copied  ◌ leaving  · not here
      scale-out 12 moves; first: node 4 holds… ████████████░░░░░░░░░░░░  50 %  3.10 MiB/s  1 s left  copy
      move-replica cities 1: n1 → n4           ████████████░░░░░░░░░░░░  50 %  3.10 MiB/s  1 s left  copy
      change-leader cities 0: n1 → n2          ░░░░░░░░░░░░░░░░░░░░░░░░   0 %  waits: the transaction of pid 4711, open for 3 s
              1 more waiting their turn
      traffic 212/s  ·  12,345 statements  ·  0 failed  ·  2 incomplete  ·  4,321 writes acknowledged  ·  p99 12 ms
      "
    `);
  });

  test('colours nothing unless asked, and cuts by what shows', () => {
    const plain = render(view, { width: 40, colours: false });
    const coloured = render(view, { width: 40, colours: true });
    expect(plain.join('')).not.toContain('\x1b');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence begins with one
    expect(coloured.map((line) => line.replace(/\x1b\[\d+m/g, ''))).toEqual(plain);
    expect(Math.max(...plain.map((line) => line.length))).toBe(40);
  });

  test('has something to draw before anything is known', () => {
    const nothing = { phase: 'starting', elapsedMs: 0, nodes: [], partitions: [], operations: [], traffic: null };
    expect(render(nothing, { width: 80, colours: false })).toEqual(['', 'starting  00:00']);
  });
});

test('bytes for eyes', () => {
  expect([0, 1, 1023, 1024, 7_500_000, 200 * 1024 ** 2, 5 * 1024 ** 4].map(humanBytes)).toEqual([
    '0 B',
    '1 B',
    '1023 B',
    '1.00 KiB',
    '7.15 MiB',
    '200 MiB',
    '5.00 TiB',
  ]);
});
