#!/usr/bin/env bash
# node-sql-parser 5.4.0, database "Postgresql": statements parsed, and printed again.
#
# Expected: the same statement, or a syntax error where the parser does not know a clause.
# Seen: words that it does not know become names. ONLY is the table, and the table its alias: the list of
# tables, by which a router would go, names one that is not in the statement. NATURAL and CROSS become an
# alias of the left table, an alias with columns becomes one name, 0x1F is 0 called "x1F". And Orders, which
# PostgreSQL reads as orders, is printed in quotes: another table.
. "$(dirname "$0")/lib/work.sh"
install node-sql-parser@5.4.0
javascript <<'JS'
import assert from 'node:assert/strict';
import module from 'node-sql-parser';

const parser = new module.Parser();
const database = 'Postgresql';
const expected = [
  ['DELETE FROM ONLY t WHERE a = 1', 'DELETE FROM "ONLY" AS "t" WHERE a = 1'],
  ['SELECT * FROM a NATURAL JOIN b', 'SELECT * FROM "a" AS "NATURAL" INNER JOIN "b"'],
  ['SELECT * FROM a CROSS JOIN b', 'SELECT * FROM "a" AS "CROSS" INNER JOIN "b"'],
  ['SELECT * FROM t AS x (a, b)', 'SELECT * FROM "t" AS "x(a, b)"'],
  ['SELECT 0x1F, 1_000', 'SELECT 0 AS "x1F", 1 AS "_000"'],
  ['SELECT * FROM Orders', 'SELECT * FROM "Orders"'],
];
for (const [statement, seen] of expected) {
  const printed = parser.sqlify(parser.parse(statement, { database }).ast, { database });
  console.log(`${statement}\n  => ${printed}`);
  assert.equal(printed, seen);
}
const { tableList } = parser.parse('UPDATE ONLY t SET a = 1', { database });
console.log('tables of UPDATE ONLY t:', tableList);
assert.deepEqual(tableList, ['update::null::ONLY']);
JS
