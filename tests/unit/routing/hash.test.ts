import { describe, expect, it, test } from 'vitest';
import { must } from '../../../src/core/assert.ts';
import { keyHash } from '../../../src/routing/hash.ts';
import { KEY_VALUES } from '../../support/key-values.ts';

const COUNT = 999_983;

function partitionOf(type: string, value: string | Buffer, count = COUNT): number | null {
  const bytes = Buffer.from(value as string);
  return must(keyHash(type), type).partition(count, bytes, 0, bytes.length, typeof value !== 'string');
}

describe('the partition of a value', () => {
  it.each(KEY_VALUES)('of type %s: %s', (type, text, pid) => {
    expect(partitionOf(type, text)).toBe(pid);
  });
});

test('of few partitions it is one of them', () => {
  const pids = Array.from({ length: 200 }, (_, i) => partitionOf('bigint', String(i), 3));
  expect(new Set(pids)).toEqual(new Set([0, 1, 2]));
  expect(partitionOf('bigint', '5', 1)).toBe(0);
  expect(partitionOf('bigint', '5', 0)).toBeNull();
});

test('integers have one hash, however wide they are', () => {
  const [two, four, eight] = [Buffer.alloc(2), Buffer.alloc(4), Buffer.alloc(8)] as const;
  two.writeInt16BE(-300);
  four.writeInt32BE(-300);
  eight.writeBigInt64BE(-300n);
  const pids = [two, four, eight].flatMap((value) =>
    ['smallint', 'integer', 'bigint'].map((t) => partitionOf(t, value)),
  );
  expect(new Set(pids)).toEqual(new Set([partitionOf('bigint', '-300')]));
  four.writeInt32BE(70_000);
  expect([partitionOf('smallint', four), partitionOf('bigint', four)]).toEqual([null, partitionOf('bigint', '70000')]);
});

test('only the bytes between start and end count', () => {
  const hash = must(keyHash('text'), 'text');
  expect(hash.partition(COUNT, Buffer.from('xxtwelve bytesxx'), 2, 14, false)).toBe(
    partitionOf('text', 'twelve bytes'),
  );
});

/** The server takes some of them; what they mean is for it to say. */
const NOT_READ: readonly [type: string, texts: readonly string[]][] = [
  [
    'bigint',
    [
      '',
      '-',
      ' 12 ',
      '0x1f',
      '1_000',
      '+5',
      '-0',
      '007',
      '5.0',
      '1e3',
      '9223372036854775808',
      '-9223372036854775809',
      '99999999999999999999',
      '١',
    ],
  ],
  ['integer', ['2147483648', '-2147483649']],
  ['smallint', ['32768', '-32769']],
  ['oid', ['-1', '4294967296']],
  ['boolean', ['', 'T', 'yes', 'on', '1', 'tr', ' true', 'falsehood']],
  [
    'uuid',
    [
      '',
      '{7a1f4a3e-3d3c-4ed5-8f5d-0d6c6a9e2b11}',
      '7a1f4a3e3d3c4ed58f5d0d6c6a9e2b11',
      '7a1f4a3e-3d3c-4ed5-8f5d-0d6c6a9e2b1g',
      '7a1f4a3e-3d3c-4ed5-8f5d-0d6c6a9e2b1-',
    ],
  ],
  ['bytea', ['', 'ff', '\\x0', '\\xgg', '\\x 00', '\\000']],
  [
    'date',
    [
      '2024-02-30',
      '2023-02-29',
      '0000-01-01',
      '2024-13-01',
      '2024-00-10',
      '2024-1-1',
      '20240101',
      'infinity',
      'today',
      '2024-01-01 BC',
      '12024-01-01',
      '2024-01-01\n',
    ],
  ],
  [
    'timestamp without time zone',
    [
      '2024-01-01',
      '2024-01-01 00:00',
      '2024-01-01 24:00:00',
      '2024-01-01 00:00:60',
      '2024-01-01 00:00:00.1234567',
      '2024-01-01 00:00:00Z',
      'now',
      'epoch',
    ],
  ],
  [
    'timestamp with time zone',
    ['2024-01-01 00:00:00', '2024-01-01 00:00:00 UTC', '2024-01-01 00:00:00+0530', '2024-01-01 00:00:00+15', 'now'],
  ],
  ['character varying(3)', ['abcd', 'äöüß', 'abc ']],
];

describe('texts that are not read', () => {
  it.each(NOT_READ)('of type %s', (type, texts) => {
    expect(texts.filter((text) => partitionOf(type, text) !== null)).toEqual([]);
  });
});

test('bytes of another length than the type’s are no value', () => {
  const types = ['integer', 'uuid', 'boolean', 'oid', 'date', 'timestamp without time zone'];
  expect(types.filter((type) => partitionOf(type, Buffer.alloc(3)) !== null)).toEqual([]);
});

test('types that are hashed by the server only', () => {
  const types = [
    'numeric',
    'character(3)',
    'double precision',
    'jsonb',
    'text COLLATE pg_catalog."C"',
    'timestamp(3) without time zone',
    'bigint[]',
    'time without time zone',
    'constructor',
  ];
  expect(types.filter((type) => keyHash(type) !== null)).toEqual([]);
  expect(keyHash('bigint')?.parameterTypes).toEqual([21, 23, 20]);
});
