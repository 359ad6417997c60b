import { tideError } from '../core/errors.ts';
import type { Settings, SettingValue } from './model.ts';

interface SettingSpec {
  readonly default: SettingValue;
  /** Inclusive; numbers only. */
  readonly range?: readonly [number, number];
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
    values: ['wait', 'allow'],
    description: 'while no follower of a partition is alive, its writes wait for one, or are allowed without',
  },
  'rebalance.auto': { default: true, description: 'data spreads by itself when a node joins or the balance is lost' },
  'move.max_pause': {
    default: 200,
    range: [20, 60_000],
    description: 'longest pause of a partition that a swing may cause, milliseconds; it backs off and tries again',
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
  const number = /^-?\d+$/.test(value.trim()) ? Number(value) : Number.NaN;
  if (!(number >= low && number <= high)) {
    throw tideError('SETTING_INVALID', { key, value, takes: `a whole number from ${low} to ${high}` });
  }
  return { key: name, value: number };
}
