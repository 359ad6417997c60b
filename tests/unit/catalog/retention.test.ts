import { describe, expect, test } from 'vitest';
import type { ClusterView, Partition, Settings } from '../../../src/catalog/model.ts';
import {
  type Disk,
  diskState,
  heldByTransactionBytes,
  moveCapBytes,
  receiversToCut,
  type SlotState,
  slotWalKeepBytes,
} from '../../../src/catalog/retention.ts';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { nodeRecord, tableRecord } from '../../fakes/records.ts';

const MIB = 1 << 20;
const GIB = 1 << 30;
const disk = (freePercent: number, totalBytes = 100 * GIB): Disk => ({
  totalBytes,
  freeBytes: (totalBytes * freePercent) / 100,
});
const slot = (behindBytes: number, more: Partial<SlotState> = {}): SlotState => ({
  keptBytes: behindBytes,
  behindBytes,
  isLost: false,
  ...more,
});

function view(placement: number[][], settings: Partial<Settings> = {}): ClusterView {
  const table = tableRecord(1, 'acct', 2, placement);
  return {
    revision: 0,
    clusterId: 'test',
    startMode: 'start',
    nodes: new Map([1, 2, 3].map((id) => [id, nodeRecord(id)])),
    tables: new Map([[1, { ...table, state: 'ready' }]]),
    settings: defaultSettings(settings),
  };
}

/** Who is cut by node 1, why, and what becomes stale there. */
function cuts(v: ClusterView, slots: Record<string, SlotState>, on = disk(50)): string[] {
  return receiversToCut(v, 1, on, new Map(Object.entries(slots))).map(
    ({ to, why, partitions }) => `${to} ${why}: ${partitions.map((p: Partition) => p.pid)}`,
  );
}

describe('the state of a disk', () => {
  test.each([
    [50, 10, 'ok'],
    [9.9, 10, 'low'],
    [5, 10, 'low'],
    [4.9, 10, 'full'],
    [4.9, 3, 'ok'],
    [2.9, 3, 'full'],
    [0, 0, 'ok'],
  ])('%d %% free with a margin of %d is %s', (free, margin, wanted) => {
    expect(diskState(disk(free), defaultSettings({ 'disk.margin': margin }))).toBe(wanted);
  });
});

describe('caps', () => {
  test('PostgreSQL keeps 16 GiB, or a quarter of a smaller disk as a power of two, and 128 MiB at least', () => {
    const of = (bytes: number) => slotWalKeepBytes(bytes) / MIB;
    expect([1e15, 64 * GIB, 63 * GIB, 10 * GIB, 700 * MIB, 0].map(of)).toEqual([
      16_384, 16_384, 8_192, 2_048, 128, 128,
    ]);
  });

  test('a move may keep what its setting says, and half of what PostgreSQL would', () => {
    const settings = defaultSettings({ 'move.max_retained_wal': 3 * GIB });
    expect(moveCapBytes(settings, null)).toBe(3 * GIB);
    expect(moveCapBytes(settings, disk(50))).toBe(3 * GIB);
    expect(moveCapBytes(settings, disk(50, 10 * GIB))).toBe(GIB);
  });
});

describe('receivers to cut', () => {
  const three = view([
    [1, 2, 3],
    [1, 2, 3],
    [2, 1, 3],
  ]);

  test('nobody who keeps up', () => {
    expect(cuts(three, { tide_1_2: slot(0), tide_1_3: slot(11 * GIB) })).toEqual([]);
  });

  test('who is further behind than the cap, with what it follows here', () => {
    expect(cuts(three, { tide_1_2: slot(0), tide_1_3: slot(13 * GIB) })).toEqual(['3 behind: 0,1']);
  });

  test('on a small disk the cap is three quarters of what PostgreSQL keeps', () => {
    const slots = { tide_1_2: slot(95 * MIB), tide_1_3: slot(97 * MIB) };
    expect(cuts(three, slots, disk(50, 700 * MIB))).toEqual(['3 behind: 0,1']);
  });

  test('on a full disk, who keeps WAL worth getting back', () => {
    const slots = { tide_1_2: slot(GIB - MIB), tide_1_3: slot(2 * GIB) };
    expect(cuts(three, slots, disk(4))).toEqual(['3 disk-full: 0,1']);
    expect(cuts(three, slots, disk(6))).toEqual([]);
  });

  test('a stream that carries nothing keeps WAL too', () => {
    const idle = view([[2, 1, 3]]);
    expect(cuts(idle, { tide_1_2: slot(0), tide_1_3: slot(13 * GIB) })).toEqual(['3 behind: ']);
  });

  test('not the last follower without which nothing may be acknowledged, unless that is allowed', () => {
    const two = [
      [1, 3],
      [1, 2, 3],
    ];
    const slots = { tide_1_2: slot(0), tide_1_3: slot(13 * GIB) };
    expect(cuts(view(two), slots)).toEqual([]);
    expect(cuts(view(two, { quorum_lost: 'fail' }), slots)).toEqual([]);
    expect(cuts(view(two, { quorum_lost: 'allow' }), slots)).toEqual(['3 behind: 0,1']);
    expect(cuts(view(two, { durability: 'async' }), slots)).toEqual(['3 behind: 0,1']);
  });

  test('what PostgreSQL has given up, or somebody has dropped, however dear it was', () => {
    const two = view([
      [1, 3],
      [1, 2, 3],
      [2, 3],
    ]);
    expect(cuts(two, { tide_1_2: slot(0), tide_1_3: slot(0, { isLost: true }) })).toEqual(['3 lost: 0,1']);
    expect(cuts(two, { tide_1_2: slot(0) })).toEqual(['3 lost: 0,1']);
  });

  test('nothing is missing where nothing is fed', () => {
    const table = tableRecord(1, 'acct', 2, [[1, 2]]);
    const making = { ...three, tables: new Map([[1, table]]) };
    expect(cuts(making, {})).toEqual([]);
    expect(cuts(view([[2, 1]]), {})).toEqual([]);
  });

  test('nobody for a transaction of the node itself: what is kept for it is told', () => {
    const held = { tide_1_2: slot(0, { keptBytes: 20 * GIB }), tide_1_3: slot(MIB, { keptBytes: 20 * GIB }) };
    expect(cuts(three, held, disk(4))).toEqual([]);
    expect(heldByTransactionBytes(three.settings, disk(4), Object.values(held))).toBe(20 * GIB);
    expect(heldByTransactionBytes(three.settings, disk(4), [slot(0), slot(13 * GIB)])).toBe(0);
  });
});
