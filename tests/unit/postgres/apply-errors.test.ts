import { appendFile, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ApplyErrors } from '../../../src/postgres/apply-errors.ts';

let dir: string;
let file: string;
let nowMs: number;
let errors: ApplyErrors;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'apply-errors-'));
  file = join(dir, 'postgres.log');
  nowMs = 1_000;
  errors = new ApplyErrors(file, () => nowMs);
});
afterEach(() => rm(dir, { recursive: true }));

const line = (pid: number, rest: string) =>
  `2026-11-30 09:30:00.123 UTC [${pid}] logical replication apply worker ${rest}\n`;

function failure(pid: number, xid: number, message = 'not on my watch'): string {
  return (
    line(pid, 'LOG:  logical replication apply worker for subscription "tide_1_2" has started') +
    line(pid, `ERROR:  ${message}`) +
    line(
      pid,
      `CONTEXT:  processing remote data for replication origin "pg_16394" during message type "INSERT" for replication target relation "tide_data.t4_p0" in transaction ${xid}, finished at 0/15D1B28`,
    )
  );
}

async function look(afterMs: number, added: string) {
  nowMs += afterMs;
  await appendFile(file, added);
  return errors.look();
}

test('failures at one place are counted, for as long as they come back', async () => {
  await look(0, failure(1, 7));
  // It was there before the first look.
  expect(await look(0, '')).toEqual([]);
  await look(500, failure(2, 7) + failure(3, 7));
  const found = await look(500, failure(4, 7));
  expect(found).toEqual([
    {
      stream: 'tide_1_2',
      table: 't4_p0',
      copying: false,
      place: '7',
      message: 'not on my watch',
      tries: 3,
      forMs: 500,
      agoMs: 0,
    },
  ]);
  const [other, first] = await look(500, failure(5, 8, 'x'));
  expect([other?.place, other?.tries, other?.forMs, first?.place, first?.agoMs]).toEqual(['8', 1, 0, '7', 500]);
  expect(await look(9_600, '')).toMatchObject([{ place: '8' }]);
  expect(await look(500, '')).toEqual([]);
});

test('who the workers are is known from what was there before', async () => {
  await look(0, line(9, 'LOG:  logical replication apply worker for subscription "tide_1_2" has started'));
  const [found] = await look(500, failure(1, 7).split('\n').slice(1).join('\n').replaceAll('[1]', '[9]'));
  expect(found).toMatchObject({ stream: 'tide_1_2', tries: 1 });
});

test('a log that is not there, or begins anew, is no failure', async () => {
  await rm(file, { force: true });
  expect(await errors.look()).toEqual([]);
  await look(0, 'x\n'.repeat(1_000));
  expect(await errors.look()).toEqual([]);
  await truncate(file);
  await writeFile(file, failure(1, 7));
  expect(await look(500, '')).toHaveLength(1);
});

test('of a log that grows by more than can be read, the newest is', async () => {
  await look(0, 'x\n');
  const found = await look(500, failure(1, 7) + line(2, `LOG:  ${'x'.repeat(2 << 20)}`) + failure(3, 8));
  expect(found.map((f) => f.place)).toEqual(['8']);
});

test('a transaction, or a copy, that takes long until it fails again is counted as one', async () => {
  await look(0, failure(1, 7));
  const began = (pid: number) =>
    line(
      pid,
      'LOG:  logical replication table synchronization worker for subscription "tide_1_2", table "t4_p1" has started',
    );
  for (let pid = 10; pid < 14; pid++) {
    await look(20_000, '');
    await look(10_000, failure(pid, 7) + began(pid + 100) + line(pid + 100, 'ERROR:  not this one'));
  }
  expect(await errors.look()).toMatchObject([
    { table: 't4_p0', place: '7', tries: 4, forMs: 90_000, agoMs: 0 },
    { table: 't4_p1', copying: true, tries: 4, forMs: 90_000, agoMs: 0 },
  ]);
  // Between two of them there is nothing new to tell, and what is over is forgotten.
  expect(await look(20_000, '')).toEqual([]);
  await look(600_000, '');
  expect(await look(0, failure(20, 7))).toMatchObject([{ tries: 1 }]);
});
