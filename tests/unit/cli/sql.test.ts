import { expect, test } from 'vitest';
import { type SqlAnswer, SqlFailure } from '../../../src/cli/sql/connection.ts';
import { splitStatements } from '../../../src/cli/sql/statements.ts';
import type { FakeHost } from './support/fake-host.ts';
import { tide } from './support/run.ts';

const TERMINAL = { stdout: true, stderr: true };
const tag = (command: string): SqlAnswer[] => [{ command, rowCount: null, columns: [], rows: [] }];
const failure = (fields: object) => new SqlFailure(fields as ConstructorParameters<typeof SqlFailure>[0]);
const given = (prepare: (host: FakeHost) => void) => ({
  terminals: TERMINAL,
  given: (_: unknown, host: FakeHost) => prepare(host),
});
/** Without where they were executed. */
const executed = ({ executed }: FakeHost) => executed.map((line) => line.replace(/^127\.0\.0\.1:\d+ /, ''));

test.for<[string, string[], string]>([
  ['SELECT 1', [], 'SELECT 1'],
  ['SELECT 1; SELECT 2;\n', ['SELECT 1;', 'SELECT 2;'], ''],
  [';; SELECT \';\' AS ";" ;', [`SELECT ';' AS ";" ;`], ''],
  ['SELECT 1 -- a; b\n; SELECT', ['SELECT 1 -- a; b\n;'], 'SELECT'],
  ['/* ; */ SELECT $$;$$ || $a$ $$; $a$;', ['/* ; */ SELECT $$;$$ || $a$ $$; $a$;'], ''],
  ['SELECT $1; SELECT a$b;', ['SELECT $1;', 'SELECT a$b;'], ''],
  ["SELECT 'it''s; ", [], "SELECT 'it''s; "],
  ['SELECT $x$ ;', [], 'SELECT $x$ ;'],
  ["SELECT E'a\\';b'; SELECT", ["SELECT E'a\\';b';"], 'SELECT'],
  ["SELECT 'a\\'; b", ["SELECT 'a\\';"], 'b'],
  ['SELECT 1 /* a /* b; */ ; */ + 1;', ['SELECT 1 /* a /* b; */ ; */ + 1;'], ''],
  [
    'CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3;',
    [
      'CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;',
      'SELECT 3;',
    ],
    '',
  ],
  ['BEGIN; END; SELECT atomic;', ['BEGIN;', 'END;', 'SELECT atomic;'], ''],
  ["SELECT 'x", [], "SELECT 'x"],
  ['', [], ''],
])('%j is split where statements end', ([text, whole, rest]) => {
  expect(splitStatements(text)).toEqual({ whole, rest });
});

test('a literal of many megabytes is one', () => {
  const text = `SELECT '${"x''".repeat(4_000_000)}';`;
  expect(splitStatements(`${text} SELECT 1`)).toEqual({ whole: [text], rest: 'SELECT 1' });
});

test('psql is used where there is one and somebody sits there', async () => {
  const ran = await tide(
    'sql',
    given((host) => {
      host.canAsk = true;
      host.psqlStatus = 2;
    }),
  );
  expect(ran.status).toBe(2);
  expect(ran.host.executed).toEqual([expect.stringMatching(/^psql postgresql:\/\/tide@127\.0\.0\.1:\d+\/tide$/)]);
});

test('without psql it is a shell, which goes on after what fails', async () => {
  const ran = await tide(
    'sql',
    given((host) => {
      host.canAsk = true;
      host.answers = ['SELECT', "  ';' ; BEGIN;", 'nonsense;', 'COMMIT; SELECT', '\\q', 'never;'];
      host.sql = (text, onNotice) => {
        if (text === 'nonsense;')
          throw failure({ message: 'syntax error', code: '42601', detail: 'of yours', hint: 'learn' });
        onNotice('WARNING: careful');
        return tag(text.split(/\W/)[0] ?? '');
      };
    }),
  );
  expect(ran.status).toBe(0);
  expect(executed(ran.host)).toEqual([
    expect.stringMatching(/^psql /),
    "SELECT\n  ';' ;",
    'BEGIN;',
    'nonsense;',
    'COMMIT;',
    'close',
  ]);
  expect(ran.stdout).toBe('SELECT\nBEGIN\nCOMMIT\n');
  expect(ran.stderr).toContain('WARNING: careful\n');
  expect(ran.stderr).toContain('ERROR: syntax error\ndetail: of yours\nhint: learn\nsqlstate: 42601\n');
  expect(ran.stderr).toContain('tide=> tide-> ');
});

test('statements are executed up to the first that fails', async () => {
  const ran = await tide(
    "sql -c 'A; B;' --command='C' --format=json",
    given((host) => {
      host.canAsk = true;
      host.sql = (text) => {
        if (text === 'B;') throw failure({ message: 'no', code: 'XX000' });
        return [{ command: 'SELECT', rowCount: 1, columns: ['n', 'at', 'doc'], rows: [[1, null, { a: 1 }]] }];
      };
    }),
  );
  expect(ran.status).toBe(1);
  expect(executed(ran.host)).toEqual(['A;', 'B;', 'close']);
  expect(JSON.parse(ran.stdout)).toEqual([{ n: 1, at: null, doc: { a: 1 } }]);
  expect(JSON.parse(ran.stderr)).toEqual({ message: 'no', sqlstate: 'XX000', detail: null, hint: null });
});

test('what stands on standard input is executed where nobody sits there', async () => {
  const ran = await tide('sql', {
    given: (_, host) => {
      host.stdin = 'SELECT table_name, pid, node FROM tide.routes;\nSET CLUSTER SETTING rebalance.auto = off';
    },
    terminals: { stdout: false, stderr: false },
  });
  expect(ran.status).toBe(0);
  expect(ran.stdout).toBe('table_name\tpid\tnode\nacct\t0\t1\nacct\t1\t3\nCALL\n');
});

test('a file that cannot be read is named, and nothing is executed', async () => {
  const ran = await tide('sql --file=/nowhere.sql');
  expect(ran.status).toBe(1);
  expect(ran.stderr).toContain('code: FILE_UNREADABLE');
  expect(ran.host.executed).toEqual([]);
});
