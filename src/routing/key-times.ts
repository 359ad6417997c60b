/**
 * Dates and points in time in ISO 8601 with a year of four digits: the one form that every DateStyle reads
 * alike. PostgreSQL counts from the year 2000.
 */

/** 64 bits, as two signed numbers. */
export interface Halves {
  readonly hi: number;
  readonly lo: number;
}

/** Null where it is no such date. */
export function daysIn(text: string): number | null {
  const found = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text);
  if (found === null) return null;
  return daysOf(Number(found[1]), Number(found[2]), Number(found[3]));
}

const POINT = /^(\d{4}-\d\d-\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::\d\d)?)?$/;

/**
 * Microseconds. With a zone it has to be there, as a number or Z: otherwise it depends on a setting. Without
 * one it must not, as the server would read past it.
 */
export function microsIn(text: string, hasZone: boolean): Halves | null {
  const found = POINT.exec(text);
  if (found === null) return null;
  const [, date = '', hour, minute, second, fraction = '', zone] = found;
  const days = daysIn(date);
  const offset = hasZone ? offsetIn(zone) : 0;
  if (days === null || offset === null || hasZone !== (zone !== undefined)) return null;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return null;
  const seconds = days * 86_400 + Number(hour) * 3_600 + Number(minute) * 60 + Number(second) - offset;
  return micros(seconds, Number(fraction.padEnd(6, '0')));
}

/** Seconds that a zone is ahead of UTC. The farthest that there is has 14 hours. */
function offsetIn(zone: string | undefined): number | null {
  if (zone === undefined) return null;
  if (zone === 'Z') return 0;
  const hours = Number(zone.slice(1, 3));
  const minutes = Number(zone.slice(4));
  if (hours > 14 || minutes > 59) return null;
  return (zone.startsWith('-') ? -1 : 1) * (hours * 3_600 + minutes * 60);
}

/** Seconds, times a million, in two halves: the product has more digits than a number is exact in. */
function micros(seconds: number, fraction: number): Halves {
  const high = Math.floor(seconds / 0x1_0000);
  const upper = high * 1_000_000;
  const carried = Math.floor(upper / 0x1_0000);
  const low = (upper - carried * 0x1_0000) * 0x1_0000 + (seconds - high * 0x1_0000) * 1_000_000 + fraction;
  const over = Math.floor(low / 0x1_0000_0000);
  return { hi: (carried + over) | 0, lo: (low - over * 0x1_0000_0000) | 0 };
}

/** Days since 2000-01-01 of a day in the Gregorian calendar. */
function daysOf(year: number, month: number, day: number): number | null {
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return null;
  const before = year - 1;
  const leaps = Math.floor(before / 4) - Math.floor(before / 100) + Math.floor(before / 400);
  let days = before * 365 + leaps + day - 1;
  for (let m = 1; m < month; m++) days += daysInMonth(year, m);
  return days - DAYS_BEFORE_2000;
}

/** From 0001-01-01. */
const DAYS_BEFORE_2000 = 730_119;

function daysInMonth(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return [4, 6, 9, 11].includes(month) ? 30 : 31;
}
