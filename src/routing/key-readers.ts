import { daysIn, type Halves, microsIn } from './key-times.ts';

/**
 * How values of key columns are read for hashing, from the text and the binary form of PostgreSQL's protocol.
 * The server accepts more forms than are read here (' 12 ', '0x1f', 'tomorrow'): those are null. What is read
 * has to mean the same to the server, under every setting.
 */

/** A number of 32 bits, or bytes. Null: not read. */
export type KeyValue = number | Span | null;

interface Span {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

export interface KeyReader {
  /** By oid. */
  readonly parameterTypes: readonly number[];
  text(bytes: Buffer, start: number, end: number): KeyValue;
  binary(bytes: Buffer, start: number, end: number): KeyValue;
}

const OID = { bool: 16, bytea: 17, int8: 20, int2: 21, int4: 23, text: 25, oid: 26 } as const;
const MORE_OIDS = { varchar: 1043, date: 1082, timestamp: 1114, timestamptz: 1184, uuid: 2950 } as const;
/** They compare with each other, and equal ones have equal hashes. */
const INTEGERS = [OID.int2, OID.int4, OID.int8];
const TEXTS = [OID.text, MORE_OIDS.varchar];

/** For a type as format_type gives it. */
export function keyReader(type: string): KeyReader | null {
  const bounded = /^character varying\((\d+)\)$/.exec(type);
  return bounded ? textReader(Number(bounded[1])) : (READERS.get(type) ?? null);
}

const READERS: ReadonlyMap<string, KeyReader> = new Map<string, KeyReader>([
  ['smallint', integerReader(2)],
  ['integer', integerReader(4)],
  ['bigint', integerReader(8)],
  ['text', textReader(null)],
  ['character varying', textReader(null)],
  ['uuid', { parameterTypes: [MORE_OIDS.uuid], text: uuidText, binary: uuidBinary }],
  ['boolean', { parameterTypes: [OID.bool], text: boolText, binary: boolBinary }],
  ['bytea', { parameterTypes: [OID.bytea], text: byteaText, binary: asItIs }],
  ['oid', { parameterTypes: [OID.oid], text: oidText, binary: wordBinary }],
  ['date', { parameterTypes: [MORE_OIDS.date], text: dateText, binary: wordBinary }],
  ['timestamp without time zone', timeReader(MORE_OIDS.timestamp, false)],
  ['timestamp with time zone', timeReader(MORE_OIDS.timestamptz, true)],
]);

function asItIs(bytes: Uint8Array, start: number, end: number): Span {
  return { bytes, start, end };
}

function signed(bytes: Uint8Array, at: number): number {
  return byte(bytes, at, 24) | byte(bytes, at + 1, 16) | byte(bytes, at + 2, 8) | byte(bytes, at + 3, 0);
}

function byte(bytes: Uint8Array, at: number, shift: number): number {
  return (bytes[at] as number) << shift;
}

function wordBinary(bytes: Buffer, start: number, end: number): number | null {
  return end - start === 4 ? signed(bytes, start) : null;
}

/** As hashint8 does: what fits into 32 bits has the hash that it has there. */
function folded({ hi, lo }: Halves): number {
  return lo ^ (hi < 0 ? ~hi : hi);
}

function fits({ hi, lo }: Halves, size: 2 | 4 | 8): boolean {
  if (size === 8) return true;
  return hi === lo >> 31 && (size === 4 || (lo >= -0x8000 && lo <= 0x7fff));
}

/** A parameter's size is that of the type that it was declared as. */
function integerReader(size: 2 | 4 | 8): KeyReader {
  const hashed = (value: Halves | null) => (value === null || !fits(value, size) ? null : folded(value));
  return {
    parameterTypes: INTEGERS,
    text: (bytes, start, end) => hashed(integerIn(bytes, start, end)),
    binary: (bytes, start, end) => {
      if (end - start === 8) return hashed({ hi: signed(bytes, start), lo: signed(bytes, start + 4) });
      if (end - start !== 4 && end - start !== 2) return null;
      const lo = end - start === 4 ? signed(bytes, start) : (byte(bytes, start, 24) >> 16) | byte(bytes, start + 1, 0);
      return hashed({ hi: lo >> 31, lo });
    },
  };
}

const MINUS = 0x2d;
/** Of 2^63 - 1. */
const DIGITS_MAX = 19;

/** Decimal digits, no zeros in front; null where it needs more than 64 bits. */
function integerIn(bytes: Uint8Array, start: number, end: number): Halves | null {
  const isNegative = bytes[start] === MINUS;
  const first = isNegative ? start + 1 : start;
  const digits = end - first;
  if (digits < 1 || digits > DIGITS_MAX || (bytes[first] === 0x30 && (digits > 1 || isNegative))) return null;
  let hi = 0;
  let lo = 0;
  for (let at = first; at < end; at++) {
    const digit = (bytes[at] as number) - 0x30;
    if (digit < 0 || digit > 9) return null;
    const next = lo * 10 + digit;
    lo = next >>> 0;
    hi = hi * 10 + (next - lo) / 0x1_0000_0000;
  }
  if (hi > 0x8000_0000 || (hi === 0x8000_0000 && (lo !== 0 || !isNegative))) return null;
  if (!isNegative) return { hi: hi | 0, lo: lo | 0 };
  return { hi: (~hi + (lo === 0 ? 1 : 0)) | 0, lo: -lo | 0 };
}

function oidText(bytes: Buffer, start: number, end: number): number | null {
  const value = integerIn(bytes, start, end);
  return value !== null && value.hi === 0 ? value.lo : null;
}

/**
 * With a bound, longer ones are not read: an INSERT would cut off spaces at the end, and a query finds none.
 */
function textReader(charactersMax: number | null): KeyReader {
  const read = (bytes: Buffer, start: number, end: number): Span | null => {
    if (charactersMax !== null && end - start > charactersMax && characters(bytes, start, end) > charactersMax)
      return null;
    return asItIs(bytes, start, end);
  };
  return { parameterTypes: TEXTS, text: read, binary: read };
}

/** Of UTF-8: bytes that do not continue another. */
function characters(bytes: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; at++) if (((bytes[at] as number) & 0xc0) !== 0x80) count++;
  return count;
}

/** t, f, true, false, as drivers write them. */
function boolText(bytes: Buffer, start: number, end: number): number | null {
  if (end - start > 5) return null;
  const text = bytes.toString('latin1', start, end);
  if (text === 't' || text === 'true') return 1;
  return text === 'f' || text === 'false' ? 0 : null;
}

function boolBinary(bytes: Buffer, start: number, end: number): number | null {
  if (end - start !== 1) return null;
  return bytes[start] === 0 ? 0 : 1;
}

/** The value of a hexadecimal digit; -1: it is none. */
function nibble(digit: number | undefined): number {
  if (digit === undefined) return -1;
  if (digit >= 0x30 && digit <= 0x39) return digit - 0x30;
  const letter = digit | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

/** Of the text form of a uuid, before the digits that follow. */
const DASHES = [8, 13, 18, 23];
const UUID_CHARACTERS = 36;
const UUID_BYTES = 16;

function uuidText(bytes: Buffer, start: number, end: number): Span | null {
  if (end - start !== UUID_CHARACTERS || DASHES.some((dash) => bytes[start + dash] !== MINUS)) return null;
  const value = new Uint8Array(UUID_BYTES);
  let at = start;
  for (let i = 0; i < UUID_BYTES; i++) {
    if (bytes[at] === MINUS) at++;
    const high = nibble(bytes[at]);
    const low = nibble(bytes[at + 1]);
    if (high < 0 || low < 0) return null;
    value[i] = (high << 4) | low;
    at += 2;
  }
  return asItIs(value, 0, UUID_BYTES);
}

function uuidBinary(bytes: Buffer, start: number, end: number): Span | null {
  return end - start === UUID_BYTES ? asItIs(bytes, start, end) : null;
}

/** `\x`, then pairs of digits. */
function byteaText(bytes: Buffer, start: number, end: number): Span | null {
  if (bytes[start] !== 0x5c || bytes[start + 1] !== 0x78 || (end - start) % 2 !== 0) return null;
  const value = new Uint8Array((end - start) / 2 - 1);
  for (let i = 0; i < value.length; i++) {
    const high = nibble(bytes[start + 2 + 2 * i]);
    const low = nibble(bytes[start + 3 + 2 * i]);
    if (high < 0 || low < 0) return null;
    value[i] = (high << 4) | low;
  }
  return asItIs(value, 0, value.length);
}

function dateText(bytes: Buffer, start: number, end: number): number | null {
  return daysIn(bytes.toString('latin1', start, end));
}

function timeReader(oid: number, hasZone: boolean): KeyReader {
  return {
    parameterTypes: [oid],
    text: (bytes, start, end) => {
      const micros = microsIn(bytes.toString('latin1', start, end), hasZone);
      return micros === null ? null : folded(micros);
    },
    binary: (bytes, start, end) =>
      end - start === 8 ? folded({ hi: signed(bytes, start), lo: signed(bytes, start + 4) }) : null,
  };
}
