import { tideError } from '../core/errors.ts';

/** A table has at most 4096 partitions (see `table-create`). */
const PID_MAX = 4095;

/**
 * Reads a group of partition ids: `3`, `1,3,5` or `1-5` (both ends included). OpenMLDB's grammar: the two
 * forms do not mix. Throws PIDS_INVALID, which names the value. A range that runs backwards is refused; there
 * it silently meant nothing.
 */
export function parsePids(text: string): number[] {
  const range = /^(\d+)-(\d+)$/.exec(text);
  if (range) return expand(text, pidOf(text, range[1] ?? ''), pidOf(text, range[2] ?? ''));
  if (text.includes('-') && text.includes(',')) throw invalid(text, 'a list and a range cannot be mixed');
  const pids = text.split(',').map((part) => pidOf(text, part));
  const twice = pids.find((pid, at) => pids.indexOf(pid) !== at);
  if (twice !== undefined) throw invalid(text, `partition ${twice} is named twice`);
  return pids;
}

/** Reads one partition id; throws PIDS_INVALID. */
export function parsePid(text: string): number {
  return pidOf(text, text);
}

function expand(text: string, first: number, last: number): number[] {
  if (first > last) throw invalid(text, `the range ends (${last}) before it starts (${first})`);
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

function pidOf(text: string, part: string): number {
  if (!/^\d+$/.test(part)) throw invalid(text, part === '' ? 'a partition id is missing' : `'${part}' is not a number`);
  const pid = Number(part);
  if (pid > PID_MAX) throw invalid(text, `${part} is above ${PID_MAX}, the highest partition id a table can have`);
  return pid;
}

function invalid(value: string, why: string) {
  return tideError('PIDS_INVALID', { value, why });
}
