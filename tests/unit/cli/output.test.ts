import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { OperationRow } from '../../../src/api/results.ts';
import { columns, render } from '../../../src/cli/output.ts';
import { cutTo, progressLine, progressLines } from '../../../src/cli/progress.ts';
import { humanBytes, humanSeconds } from '../../../src/core/units.ts';

interface Row {
  id: number;
  text: string | null;
  lagBytes: number | null;
  isLive: boolean;
  at: string;
}

const shape = columns<Row>('id', 'text', 'lagBytes:bytes', 'isLive', 'at:time');
const rows: Row[] = [
  { id: 1, text: 'a "quoted", thing', lagBytes: 1536, isLive: true, at: '2026-03-01T08:00:00.000Z' },
  { id: 10, text: '城市', lagBytes: null, isLive: false, at: '2026-03-01T08:00:01.000Z' },
];

test('table: numbers to the right, wide characters counted, units, no trailing blanks', () => {
  expect(render('table', rows, shape, rows)).toBe(`  id | text              | lag_bytes | is_live | at
-----+-------------------+-----------+---------+-------------------------------
   1 | a "quoted", thing |  1.50 KiB | true    | 2026-03-01 08:00:00.000+00:00
  10 | 城市              |         - | false   | 2026-03-01 08:00:01.000+00:00
(2 rows)
`);
});

test('table: nothing found, one found', () => {
  expect(render('table', [], columns<Row>('id', 'text'), [])).toBe('  id | text\n-----+------\n(0 rows)\n');
  expect(render('table', rows.slice(0, 1), columns<Row>('id'), [])).toBe('  id\n-----\n   1\n(1 row)\n');
});

test('csv follows RFC 4180, tsv quotes alike; both have plain numbers and empty nulls', () => {
  expect(render('csv', rows, shape, rows)).toBe(
    'id,text,lag_bytes,is_live,at\r\n' +
      '1,"a ""quoted"", thing",1536,true,2026-03-01 08:00:00.000+00:00\r\n' +
      '10,城市,,false,2026-03-01 08:00:01.000+00:00\r\n',
  );
  expect(render('tsv', rows, columns<Row>('id', 'text'), rows)).toBe('id\ttext\n1\t"a ""quoted"", thing"\n10\t城市\n');
});

test('csv can be read back, whatever is in a cell', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', ' ') }), { minLength: 1 }),
      (texts) => {
        const found = texts.map((text, id) => ({ id, text }));
        const csv = render('csv', found, columns<{ id: number; text: string }>('id', 'text'), found);
        expect(readCsv(csv).slice(1)).toEqual(found.map(({ id, text }) => [String(id), text]));
      },
    ),
  );
});

/** A reader of RFC 4180 for two columns, by its grammar. */
function readCsv(text: string): string[][] {
  return [...text.matchAll(/([^,]*),(?:"((?:[^"]|"")*)"|([^"\r\n]*))\r\n/g)].map((match) => [
    match[1] ?? '',
    match[2]?.replaceAll('""', '"') ?? match[3] ?? '',
  ]);
}

test('json is the answer, not the rows', () => {
  expect(render('json', rows, shape, { lagBytes: 1 })).toBe('{\n  "lagBytes": 1\n}\n');
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1536, '1.50 KiB'],
  [84 * 1024 ** 2, '84.0 MiB'],
  [164 * 1024 ** 2, '164 MiB'],
  [3 * 1024 ** 4, '3.00 TiB'],
])('%d bytes read %s', (bytes, text) => expect(humanBytes(bytes)).toBe(text));

test.each([
  [0.2, '0 s'],
  [59.6, '1 min'],
  [125, '2 min 5 s'],
  [3_840, '1 h 4 min'],
  [180_000, '2 d 2 h'],
])('%d seconds read %s', (seconds, text) => expect(humanSeconds(seconds)).toBe(text));

const op: OperationRow = {
  id: 12,
  parent: null,
  kind: 'migrate',
  subject: 'acct 3: n1 → n4',
  status: 'running',
  step: 'copy',
  percent: 43.9,
  bytesDone: 1024 ** 3,
  bytesTotal: 2.5 * 1024 ** 3,
  bytesPerSecond: 84 * 1024 ** 2,
  secondsLeft: 19,
  waitsFor: null,
  createdAt: '2026-03-01T08:00:00.000Z',
  startedAt: '2026-03-01T08:00:00.000Z',
  endedAt: null,
  error: null,
};

test('progress lines', () => {
  const waitsFor = {
    kind: 'slot',
    text: 'slot s_1_4 on n1',
    node: 1,
    pid: null,
    user: null,
    query: null,
    ageSeconds: null,
  } as const;
  const error = { code: 'DISK_FULL', message: 'node 4 is full', hint: '' };
  const lines = [
    progressLine(op),
    progressLine({
      ...op,
      status: 'queued',
      step: null,
      percent: 0,
      bytesTotal: 0,
      bytesPerSecond: null,
      secondsLeft: null,
    }),
    progressLine({ ...op, bytesPerSecond: 0, secondsLeft: null, waitsFor }),
    progressLine({ ...op, status: 'undoing', step: 'drop-target' }),
    progressLine({ ...op, status: 'failed', endedAt: '2026-03-01T08:02:05.000Z', error }),
    cutTo(progressLine(op), 40),
  ];
  expect(lines).toEqual([
    'operation 12 migrate acct 3: n1 → n4: copy, 43 %, 1.00 GiB of 2.50 GiB, 84.0 MiB/s, 19 s left',
    'operation 12 migrate acct 3: n1 → n4: queued, 0 %',
    'operation 12 migrate acct 3: n1 → n4: copy, 43 %, 1.00 GiB of 2.50 GiB, 0 B/s; waits for slot s_1_4 on n1',
    'operation 12 migrate acct 3: n1 → n4: undoing drop-target, 43 %, 1.00 GiB of 2.50 GiB, 84.0 MiB/s, 19 s left',
    'operation 12 migrate acct 3: n1 → n4: failed after 2 min 5 s: node 4 is full',
    'operation 12 migrate acct 3: n1 → n4: c…',
  ]);
  expect(progressLines({ ...op, waitsFor })).toEqual([
    'operation 12 migrate acct 3: n1 → n4: copy',
    '  [########............]  43 %, 1.00 GiB of 2.50 GiB, 84.0 MiB/s, 19 s left',
    '  waits for slot s_1_4 on n1',
  ]);
});
