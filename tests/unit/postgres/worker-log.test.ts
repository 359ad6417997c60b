import { expect, test } from 'vitest';
import { WorkerLog } from '../../../src/postgres/worker-log.ts';

/** As PostgreSQL 18.4 writes it with pgtide's `log_line_prefix`. */

const line = (rest: string) => `2026-11-30 09:30:00.123 UTC ${rest}\n`;
const at = (pid: number, rest: string, kind = 'apply') => line(`[${pid}] logical replication ${kind} worker ${rest}`);
const applies = (pid: number, stream = 'tide_1_2') =>
  at(pid, `LOG:  logical replication apply worker for subscription "${stream}" has started`);
const copies = (pid: number) =>
  at(
    pid,
    'LOG:  logical replication table synchronization worker for subscription "tide_1_2", table "t4_p0" has started',
    'tablesync',
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
      line(
        '[99] postmaster LOG:  background worker "logical replication apply worker" (PID 4711) exited with exit code 1',
      ),
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
  const found = log.take(
    copies(2) + at(2, `ERROR:  ${message}`, 'tablesync') + at(2, 'CONTEXT:  COPY t4_p0, line 1: "1	x"', 'tablesync'),
  );
  expect(found).toEqual([{ ...FAILURE, copying: true, table: 't4_p0', place: '', message }]);
});

test('what a leader worker says of its parallel one is marked', () => {
  const log = new WorkerLog();
  const inParallel = `${applying('INSERT', ' for replication target relation "tide_data.t4_p0"', 8)}`;
  const found = log.take(
    applies(1) +
      applies(2) +
      at(2, 'ERROR:  duplicate key value violates unique constraint "t4_p0_pkey"', 'parallel') +
      at(2, inParallel, 'parallel') +
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
  const clients = '2026-11-30 09:30:00.123 UTC [5] client backend tide@tide psql ERROR:  syntax error at or near "x"\n';
  expect(log.take(clients + at(6, 'ERROR:  x') + at(6, applying('INSERT', '')))).toEqual([]);
});

test('a client cannot pass a statement off as what a worker says', () => {
  const log = new WorkerLog();
  const said = 'logical replication apply worker for subscription "tide_1_2" has started';
  const text = `2026-11-30 09:30:00.123 UTC [7] client backend tide@tide [7] LOG:  ${said} ERROR:  x\n`;
  const raised =
    `2026-11-30 09:30:00.123 UTC [7] client backend tide@tide psql WARNING:  a\n` +
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

const STARTED = 'LOG:  logical replication apply worker for subscription "tide_3_4" has started';
const FORGED =
  'processing remote data for replication origin "x" during message type "INSERT" for replication target relation "tide_data.t9_p9" in transaction 77';

test('functions of clients that run without one, in a parallel worker or in autovacuum, are not believed', () => {
  for (const kind of ['parallel worker', 'autovacuum worker']) {
    const log = new WorkerLog();
    const said =
      line(`[8] ${kind} ${STARTED}`) +
      line(`[8] ${kind} CONTEXT:  PL/pgSQL function f() line 3 at RAISE`) +
      line(`[8] ${kind} ERROR:  forged`) +
      line(`[8] ${kind} CONTEXT:  PL/pgSQL function g() line 2 at RAISE`) +
      `\tSQL statement "select g() /* ${FORGED} */"\n\tPL/pgSQL function f() line 4 at EXECUTE\n`;
    expect(log.take(said)).toEqual([]);
  }
});

test('a function that a row has called says neither for whom its worker works nor what it fails at', () => {
  const log = new WorkerLog();
  const found = log.take(
    applies(1) +
      at(1, STARTED) +
      at(1, 'CONTEXT:  PL/pgSQL function f() line 3 at RAISE') +
      at(1, 'ERROR:  forged') +
      at(1, `CONTEXT:  ${FORGED}`) +
      `\t${FORGED}\n\tlogical replication parallel apply worker\n` +
      `\t${applying('INSERT', ' for replication target relation "tide_data.t4_p0"').replace('CONTEXT:  ', '')}\n`,
  );
  expect(found).toEqual([{ ...FAILURE, table: 't4_p0', place: '745', message: 'forged' }]);
});

test('the SQLSTATE of log_error_verbosity = verbose is passed over', () => {
  const log = new WorkerLog();
  const found = log.take(
    applies(1).replace('LOG:  ', 'LOG:  00000: ') +
      at(1, 'LOCATION:  logicalrep_worker_onexit, worker.c:1') +
      at(1, 'ERROR:  23514: not so') +
      at(1, applying('INSERT', ' for replication target relation "tide_data.t4_p0"')) +
      at(1, 'LOCATION:  ExecConstraints, execMain.c:2004'),
  );
  expect(found).toEqual([{ ...FAILURE, table: 't4_p0', place: '745', message: 'not so' }]);
});

test('a line without an end, and a context without one, cost little', () => {
  const log = new WorkerLog();
  const long = 'x'.repeat(1 << 20);
  for (let piece = 0; piece < 600; piece++) expect(log.take(long)).toEqual([]);
  const context = `${at(2, 'ERROR:  a')}${at(2, 'CONTEXT:  SQL statement "')}`;
  log.take(`\n${applies(2)}${context}`.trimEnd());
  for (let piece = 0; piece < 20; piece++) log.take(`\n\t${long}`);
  const end = applying('UPDATE', ' for replication target relation "tide_data.t4_p0"').replace('CONTEXT:  ', '');
  expect(log.take(`\n\t${end}\n`).map((f) => [f.table, f.place])).toEqual([['t4_p0', '745']]);
});
