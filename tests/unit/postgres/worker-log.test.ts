import { expect, test } from 'vitest';
import { WorkerLog } from '../../../src/postgres/worker-log.ts';

/** As PostgreSQL 18.4 writes it with pgtide's `log_line_prefix`. */

const at = (pid: number, rest: string) => `2026-11-30 09:30:00.123 UTC [${pid}] ${rest}\n`;
const applies = (pid: number, stream = 'tide_1_2') =>
  at(pid, `LOG:  logical replication apply worker for subscription "${stream}" has started`);
const copies = (pid: number) =>
  at(
    pid,
    'LOG:  logical replication table synchronization worker for subscription "tide_1_2", table "t4_p0" has started',
  );
const applying = (type: string, relation: string, xid = 745) =>
  `CONTEXT:  processing remote data for replication origin "pg_16394" during message type "${type}"${relation} in transaction ${xid}, finished at 0/15D1B28`;
const FAILURE = { stream: 'tide_1_2', copying: false, second: false };

test('a row that cannot be applied is told with its table, its transaction and what PostgreSQL says', () => {
  const log = new WorkerLog();
  const found = log.take(
    applies(4711) +
      at(4711, 'ERROR:  conflict detected on relation "tide_data.t4_p0": conflict=insert_exists') +
      at(4711, 'DETAIL:  Key already exists in unique index "t4_p0_pkey", modified in transaction 754.') +
      '\tKey (id)=(1); existing local row (1, x); remote row (1, y).\n' +
      at(4711, applying('INSERT', ' for replication target relation "tide_data.t4_p0"')) +
      at(99, 'LOG:  background worker "logical replication apply worker" (PID 4711) exited with exit code 1'),
  );
  const message = 'conflict detected on relation "tide_data.t4_p0": conflict=insert_exists';
  expect(found).toEqual([{ ...FAILURE, table: 't4_p0', place: '745', message }]);
});

test('a table that does not fit is named by the message, before PostgreSQL has it', () => {
  const log = new WorkerLog();
  const missing = 'logical replication target relation "tide_data.t4_p0" is missing replicated column: "n"';
  const found = log.take(applies(1) + at(1, `ERROR:  ${missing}`) + at(1, applying('INSERT', '', 7)));
  expect(found).toEqual([{ ...FAILURE, table: 't4_p0', place: '7', message: missing }]);
});

test('what is not the failure of a row has no place', () => {
  const log = new WorkerLog();
  const message = 'could not receive data from WAL stream: server closed the connection unexpectedly';
  const found = log.take(`${applies(1)}${at(1, `ERROR:  ${message}`)}\tThis probably means that it is gone.\n`);
  expect(found).toEqual([{ ...FAILURE, table: null, place: '', message }]);
});

test('a copy is told with the table of its worker', () => {
  const log = new WorkerLog();
  const message = 'new row for relation "t4_p0" violates check constraint "odd"';
  const found = log.take(copies(2) + at(2, `ERROR:  ${message}`) + at(2, 'CONTEXT:  COPY t4_p0, line 1: "1	x"'));
  expect(found).toEqual([{ ...FAILURE, copying: true, table: 't4_p0', place: '', message }]);
});

test('what a leader worker says of its parallel one is marked', () => {
  const log = new WorkerLog();
  const inParallel = `${applying('INSERT', ' for replication target relation "tide_data.t4_p0"', 8)}`;
  const found = log.take(
    applies(1) +
      applies(2) +
      at(2, 'ERROR:  duplicate key value violates unique constraint "t4_p0_pkey"') +
      at(2, inParallel) +
      at(1, 'ERROR:  logical replication parallel apply worker exited due to error') +
      at(1, inParallel) +
      '\tlogical replication parallel apply worker\n',
  );
  expect(found.map(({ second, table, place }) => ({ second, table, place }))).toEqual([
    { second: false, table: 't4_p0', place: '8' },
    { second: true, table: 't4_p0', place: '8' },
  ]);
});

test('errors of clients, and of workers that were not seen to begin, are nobody’s', () => {
  const log = new WorkerLog();
  const clients = '2026-11-30 09:30:00.123 UTC [5] tide@tide psql ERROR:  syntax error at or near "x"\n';
  expect(log.take(clients + at(6, 'ERROR:  x') + at(6, applying('INSERT', '')))).toEqual([]);
});

test('a client cannot pass a statement off as what a worker says', () => {
  const log = new WorkerLog();
  const said = 'logical replication apply worker for subscription "tide_1_2" has started';
  const text = `2026-11-30 09:30:00.123 UTC [7] tide@tide [7] LOG:  ${said} ERROR:  x\n`;
  const raised =
    `2026-11-30 09:30:00.123 UTC [7] tide@tide psql WARNING:  a\n` +
    `\t2026-11-30 09:30:00.124 UTC [7] LOG:  ${said}\n` +
    `\t2026-11-30 09:30:00.125 UTC [7] ERROR:  x\n`;
  expect(log.take(text + raised + applies(1))).toEqual([]);
});

test('pieces may end anywhere', () => {
  const whole =
    applies(1) +
    at(1, 'ERROR:  a') +
    at(1, applying('UPDATE', ' for replication target relation "tide_data.t4_p0" column "v"')) +
    at(9, 'LOG:  x');
  for (let cut = 0; cut <= whole.length; cut++) {
    const log = new WorkerLog();
    const found = [...log.take(whole.slice(0, cut)), ...log.take(whole.slice(cut))];
    // Cut between the lines of an entry, only the first failure may lack its context.
    expect(found.length, whole.slice(0, cut)).toBe(1);
  }
});
