import { keyReader } from './key-readers.ts';

/**
 * Which partition a key's value belongs to, as PostgreSQL finds it (`satisfies_hash_partition`): the extended
 * hash function of the key's type with a seed of its own, joined to the hashes of the columns before it (here
 * there are none), modulo the number of partitions. All in 32-bit integers, two for what has 64 bits: this
 * runs for every statement. On servers that store integers little endian, as all that pgtide runs on do.
 */

/** HASH_PARTITION_SEED. */
const SEED_HI = 0x7a5b2236;
const SEED_LO = 0x7996dcfd;
/** What a first hash is joined to: hash_combine64 of it and nothing. */
const JOIN_HI = 0x49a0f4dd;
const JOIN_LO = 0x15e5a8e3;
/** Where all three words of a hash begin, before the length is added. */
const START = (0x9e3779b9 + 3_923_095) | 0;
/** Products of remainders stay exact below it. */
const PARTITIONS_MAX = 1 << 26;

export interface KeyHash {
  /** Types that a parameter may be declared as: its values are hashed here as those of the key are. */
  readonly parameterTypes: readonly number[];
  /**
   * The partition of a value, of `count`, as it stands in a Bind message from `start` to before `end`. Null:
   * not known here, although the server may well take the value.
   */
  partition(count: number, bytes: Buffer, start: number, end: number, isBinary: boolean): number | null;
}

/**
 * For a key column's type, as format_type gives it; null: its values are not hashed here. The encoding of the
 * client has to be UTF-8, which is the database's: text is hashed as it comes.
 */
export function keyHash(type: string): KeyHash | null {
  const reader = keyReader(type);
  if (reader === null) return null;
  const { parameterTypes } = reader;
  return {
    parameterTypes,
    partition: (count, bytes, start, end, isBinary) => {
      if (count < 1 || count >= PARTITIONS_MAX) return null;
      const value = isBinary ? reader.binary(bytes, start, end) : reader.text(bytes, start, end);
      if (value === null) return null;
      if (typeof value === 'number') return ofWord(value, count);
      return ofBytes(value.bytes, value.start, value.end, count);
    },
  };
}

/** hash_uint32_extended. */
function ofWord(value: number, count: number): number {
  return ofBytes(NO_BYTES, 0, 0, count, 4, value);
}

const NO_BYTES = Buffer.alloc(0);

/**
 * hash_bytes_extended: Bob Jenkins' lookup3. The seed is what is mixed in first, then twelve bytes at a time;
 * the last few are mixed in another way. `length` and `first` are given where a number is hashed, which is
 * added as if it were the first word of four bytes.
 */
function ofBytes(
  bytes: Uint8Array,
  start: number,
  end: number,
  count: number,
  length: number = end - start,
  first = 0,
): number {
  let a = (START + length) | 0;
  let b = a;
  let c = a;
  let x = SEED_HI;
  let y = SEED_LO;
  let z = 0;
  let at = start;
  for (;;) {
    a = (a + x) | 0;
    b = (b + y) | 0;
    c = (c + z) | 0;
    a = ((a - c) ^ ((c << 4) | (c >>> 28))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 6) | (a >>> 26))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 8) | (b >>> 24))) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ ((c << 16) | (c >>> 16))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 19) | (a >>> 13))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 4) | (b >>> 28))) | 0;
    b = (b + a) | 0;
    if (end - at < 12) break;
    x = word(bytes, at, end);
    y = word(bytes, at + 4, end);
    z = word(bytes, at + 8, end);
    at += 12;
  }
  a = (a + word(bytes, at, end) + first) | 0;
  b = (b + word(bytes, at + 4, end)) | 0;
  // The lowest byte of the last word is the length's.
  c = (c + (word(bytes, at + 8, end) << 8)) | 0;
  c = ((c ^ b) - ((b << 14) | (b >>> 18))) | 0;
  a = ((a ^ c) - ((c << 11) | (c >>> 21))) | 0;
  b = ((b ^ a) - ((a << 25) | (a >>> 7))) | 0;
  c = ((c ^ b) - ((b << 16) | (b >>> 16))) | 0;
  a = ((a ^ c) - ((c << 4) | (c >>> 28))) | 0;
  b = ((b ^ a) - ((a << 14) | (a >>> 18))) | 0;
  c = ((c ^ b) - ((b << 24) | (b >>> 8))) | 0;
  return remainder(b >>> 0, c >>> 0, count);
}

/** Four bytes, the lowest first; zeros behind the end. */
function word(bytes: Uint8Array, at: number, end: number): number {
  if (at + 4 <= end)
    return byte(bytes, at) | (byte(bytes, at + 1) << 8) | (byte(bytes, at + 2) << 16) | (byte(bytes, at + 3) << 24);
  let value = 0;
  for (let i = at; i < end; i++) value |= byte(bytes, i) << (8 * (i - at));
  return value;
}

function byte(bytes: Uint8Array, at: number): number {
  return bytes[at] as number;
}

function remainder(hashHi: number, hashLo: number, count: number): number {
  const low = hashLo + JOIN_LO;
  const hi = (hashHi + JOIN_HI + (low > 0xffff_ffff ? 1 : 0)) >>> 0;
  const lo = low >>> 0;
  return ((hi % count) * (0x1_0000_0000 % count) + (lo % count)) % count;
}
