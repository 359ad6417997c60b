import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tideError } from '../../../src/core/errors.ts';
import { diskFailure, logEnd, logTail, startFailure, storeError } from '../../../src/postgres/failures.ts';

it.each([
  [
    'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\nFATAL:  could not create any TCP/IP sockets',
    'PORT_IN_USE',
  ],
  [
    'LOG:  could not bind IPv4 address "127.0.0.1": Permission denied\nFATAL:  could not create any TCP/IP sockets',
    'ADDRESS_UNAVAILABLE',
  ],
  ['FATAL:  could not write lock file "postmaster.pid": No space left on device', 'STORE_FULL'],
  ['FATAL:  could not open file "x": Read-only file system', 'STORE_READ_ONLY'],
  [
    'LOG:  syntax error in file "/s/postgresql.auto.conf" line 3\nFATAL:  configuration file contains errors',
    'POSTGRES_CONFIG_BAD',
  ],
  ['PANIC:  could not locate a valid checkpoint record', 'POSTGRES_START_FAILED'],
])('reads the reason out of %s', (logTail, code) => {
  const error = startFailure({
    dataDir: '/s/pgdata',
    address: '127.0.0.1:1',
    exit: 'status 1',
    logFile: '/l',
    logTail,
  });
  expect(error.code).toBe(code);
});

it('leaves other failures alone', () => {
  expect(diskFailure('/s', 'initdb: error: cannot be run as root')).toBeNull();
});

describe('a call on the store that failed', () => {
  it.each([
    ['ENOSPC', 'STORE_FULL'],
    ['EDQUOT', 'STORE_FULL'],
    ['EROFS', 'STORE_READ_ONLY'],
    ['EACCES', 'STORE_READ_ONLY'],
    ['EIO', 'STORE_UNUSABLE'],
  ])('with %s is %s', (code, wanted) => {
    const error = Object.assign(new Error('it is so'), { code });
    expect(storeError('/s', error)).toMatchObject({
      code: wanted,
      details: { path: '/s', why: 'it is so' },
      cause: error,
    });
  });

  it('stays what it is where that is known already', () => {
    const known = tideError('STORE_DAMAGED', { file: '/s', why: 'x' });
    expect(storeError('/s', known)).toBe(known);
  });
});

describe('the end of a log', () => {
  it('is its last lines, of what was written since', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'log-tail-'));
    const file = join(dir, 'postgres.log');
    try {
      expect([await logTail(file), await logEnd(file)]).toEqual(['', 0]);
      await writeFile(file, 'before\n');
      const from = await logEnd(file);
      expect(await logTail(file, from)).toBe('');
      await writeFile(file, 'now\n', { flag: 'a' });
      expect([await logTail(file), await logTail(file, from)]).toEqual(['before\nnow', 'now']);
      // Begun anew, it is shorter than it was.
      expect(await logTail(file, 1_000)).toBe('');
      await writeFile(file, Array.from({ length: 20 }, (_, i) => `line ${i}\n`).join(''));
      expect((await logTail(file)).split('\n')).toEqual(Array.from({ length: 12 }, (_, i) => `line ${i + 8}`));
      await writeFile(file, 'x'.repeat(1 << 20));
      expect(await logTail(file)).toHaveLength(8_192);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
