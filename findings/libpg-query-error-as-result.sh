#!/usr/bin/env bash
# libpg-query 18.1.5: what the scanner cannot read is no error in two of its functions, and the wrong one in a third.
#
# Expected: `fingerprint`, `normalize` and `scan` reject a text that they cannot read, as `parse` does.
# Seen: a grammar error is rejected by fingerprint and normalize; a scanner's error (an unterminated string) is RESOLVED: the message of the error
# is the result. All such texts with the same beginning have "the same fingerprint", and a log of normalized statements shows the literal that
# normalizing was to hide. `scan` rejects, but with JSON.parse's complaint about the message.
. "$(dirname "$0")/lib/work.sh"
install libpg-query@18.1.5
javascript <<'JS'
import assert from 'node:assert/strict';
import { fingerprint, normalize, parse, scan } from 'libpg-query';

const unterminated = "SELECT 'secret";
const message = `unterminated quoted string at or near "'secret"`;
await assert.rejects(parse(unterminated), { message });
await assert.rejects(fingerprint('SELCT 1'), /syntax error/);
await assert.rejects(normalize('SELCT 1'), /syntax error/);

assert.equal(await fingerprint(unterminated), message);
assert.equal(await normalize(unterminated), message);
await assert.rejects(scan(unterminated), /is not valid JSON/);
console.log('parse rejects:        ', message);
console.log('fingerprint resolves: ', await fingerprint(unterminated));
console.log('normalize resolves:   ', await normalize(unterminated));
console.log('scan rejects:         ', (await scan(unterminated).catch((error) => error)).message);
JS
