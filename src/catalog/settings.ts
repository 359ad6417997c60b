import { tideError } from '../core/errors.ts';
import type { Settings, SettingValue } from './model.ts';

const UNITS = { B: 1, kB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30, TB: 2 ** 40 } as const;
const { MB, GB } = UNITS;

interface SettingSpec {
  readonly default: SettingValue;
  /** Inclusive; numbers only. */
  readonly range?: readonly [number, number];
  /** Taken and shown with PostgreSQL's units: B, kB, MB, GB, TB, in powers of 1024. */
  readonly unit?: 'bytes';
  /** What a setting that is neither a number nor a switch takes. */
  readonly values?: readonly string[];
  readonly description: string;
}

export const SETTINGS: Record<keyof Settings, SettingSpec> = {
  durability: {
    default: 'quorum',
    values: ['quorum', 'async'],
    description:
      'quorum: a commit is acknowledged when it is on disk on the leader and on a follower; async: on the leader',
  },
  quorum_lost: {
    default: 'wait',
    values: ['wait', 'allow', 'fail'],
    description: 'while no follower of a partition is alive, its writes wait for one, are allowed without, or fail',
  },
  'rebalance.auto': { default: true, description: 'data spreads by itself when a node joins or the balance is lost' },
  'move.max_pause': {
    default: 200,
    range: [20, 60_000],
    description: 'longest pause of a partition that a swing may cause, milliseconds; it backs off and tries again',
  },
  'move.max_pause_limit': {
    default: 2_000,
    range: [20, 60_000],
    description: 'what move.max_pause grows to, step by step, where swings fail again and again, milliseconds',
  },
  min_nodes: { default: 3, range: [1, 1000], description: 'fewest nodes that a scale-in may leave' },
  'move.concurrency': { default: 4, range: [1, 256], description: 'moves that may run at once in the cluster' },
  'move.concurrency_per_node': {
    default: 2,
    range: [1, 64],
    description: 'moves that may run at once from or to one node',
  },
  auto_failover: {
    default: true,
    description: 'followers take over by themselves from a node that is proved to be down',
  },
  'node.lease': {
    default: 10,
    range: [6, 600],
    description:
      'with etcd: a node that cannot renew its lease for this long lets nobody in, and others may lead in its place, seconds',
  },
  'node.dead_after': {
    default: 600,
    range: [1, 31_536_000],
    description: 'time after which the replicas of a node that is down are made again elsewhere, seconds',
  },
  'move.max_retained_wal': {
    default: 8 * GB,
    range: [32 * MB, 1024 * GB],
    unit: 'bytes',
    description: 'WAL that one move may make its source keep; beyond it the move is taken back',
  },
  'follower.max_retained_wal': {
    default: 12 * GB,
    range: [32 * MB, 1024 * GB],
    unit: 'bytes',
    description: 'how far a follower may be behind; beyond it its leader keeps no more WAL, and it is copied again',
  },
  'operations.keep_count': {
    default: 10_000,
    range: [1, 1_000_000],
    description: 'ended operations that are kept; older ones are forgotten',
  },
  'operations.keep_for': {
    default: 30 * 86_400,
    range: [60, 3_153_600_000],
    description: 'time for which an ended operation is kept, seconds',
  },
  show_query_literals: {
    default: false,
    description: 'statements of clients in waits and events are shown with their literals',
  },
  'disk.margin': { default: 10, range: [0, 90], description: 'share of a disk that moves leave free, percent' },
};

export function defaultSettings(overrides: Partial<Settings> = {}): Settings {
  const defaults = Object.fromEntries(Object.entries(SETTINGS).map(([key, spec]) => [key, spec.default]));
  return { ...(defaults as unknown as Settings), ...overrides };
}

/** Throws SETTING_UNKNOWN or SETTING_INVALID; the message says what the setting takes. */
export function parseSetting(key: string, value: string): { key: keyof Settings; value: SettingValue } {
  const spec = Object.hasOwn(SETTINGS, key) ? SETTINGS[key as keyof Settings] : undefined;
  if (!spec) throw tideError('SETTING_UNKNOWN', { key, known: Object.keys(SETTINGS).join(', ') });
  const name = key as keyof Settings;
  if (typeof spec.default === 'boolean') {
    if (/^(on|true|yes|1)$/i.test(value)) return { key: name, value: true };
    if (/^(off|false|no|0)$/i.test(value)) return { key: name, value: false };
    throw tideError('SETTING_INVALID', { key, value, takes: 'on or off' });
  }
  if (spec.values) {
    const chosen = spec.values.find((v) => v === value.trim().toLowerCase());
    if (chosen === undefined) throw tideError('SETTING_INVALID', { key, value, takes: spec.values.join(' or ') });
    return { key: name, value: chosen as SettingValue };
  }
  const [low, high] = spec.range ?? [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER];
  const number = spec.unit === 'bytes' ? parseBytes(value) : parseWhole(value);
  if (!(number >= low && number <= high)) {
    const size = `a size from ${showSetting(name, low)} to ${showSetting(name, high)}, such as 500MB or 4GB`;
    const takes = spec.unit === 'bytes' ? size : `a whole number from ${low} to ${high}`;
    throw tideError('SETTING_INVALID', { key, value, takes });
  }
  return { key: name, value: number };
}

/** A value as `parseSetting` takes it. */
export function showSetting(key: keyof Settings, value: SettingValue): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (SETTINGS[key].unit !== 'bytes') return String(value);
  const units = Object.entries(UNITS).reverse();
  const [unit, size] = units.find(([, bytes]) => Number(value) % bytes === 0) ?? ['B', 1];
  return `${Number(value) / size}${unit}`;
}

function parseWhole(text: string): number {
  return /^-?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
}

/** `4GB`, `500 mb`, `1048576`; NaN for anything else. */
function parseBytes(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+)\s*([kmgt]?b)?$/i.exec(text.trim()) ?? [];
  const size = Object.entries(UNITS).find(([name]) => name.toLowerCase() === (unit || 'B').toLowerCase())?.[1];
  return digits === '' || size === undefined ? Number.NaN : Number(digits) * size;
}
