import { expect, it } from 'vitest';
import { renderConfig, socketDirFor } from '../../../src/postgres/config.ts';
import { diskFailure, startFailure } from '../../../src/postgres/failures.ts';
import { parsePostmasterFile } from '../../../src/postgres/postmaster.ts';
import { retryMs } from '../../../src/postgres/supervise.ts';

const base = { port: 27257, listenHosts: ['10.0.0.5'], socketDir: "/o'brien" };

it.each([
  [['10.0.0.5'], '127.0.0.1,10.0.0.5'],
  [['127.0.0.1'], '127.0.0.1'],
  [['localhost', 'localhost'], 'localhost'],
  [['db1', '0.0.0.0'], '*'],
  [[], '127.0.0.1'],
])('listens on loopback and %o', (listenHosts, wanted) => {
  expect(renderConfig({ ...base, listenHosts })).toContain(`\nlisten_addresses = '${wanted}'\n`);
});

it('quotes values and keeps defaults in one place', () => {
  const text = renderConfig(base);
  expect(text).toContain("unix_socket_directories = '/o''brien'");
  expect(text).toContain("shared_buffers = '64MB'");
  expect(renderConfig({ ...base, slotWalKeepMb: 10 })).toContain("max_slot_wal_keep_size = '10MB'");
});

it.each([
  [undefined, 740],
  [10, 540],
  [1_000, 3_140],
])('has room for %s clients, for other nodes, and for its own', (maxClients, connections) => {
  const text = renderConfig({ ...base, ...(maxClients === undefined ? {} : { maxClients }) });
  expect(text).toContain(`\nmax_connections = ${connections}\n`);
  expect(text).toContain('\nreserved_connections = 100\n');
  expect(text).toContain('\nsuperuser_reserved_connections = 40\n');
});

it('has no socket where its path would be too long', () => {
  expect(socketDirFor('/short', 5432)).toBe('/short');
  expect(socketDirFor(`/${'x'.repeat(100)}`, 5432)).toBeNull();
});

it('reads postmaster.pid, whole or half written', () => {
  const text = '4711\n/data\n1700000000\n27257\n/run\n127.0.0.1\n  123 4\nready   \n';
  expect(parsePostmasterFile(text)).toEqual({ processId: 4711, dataDir: '/data', port: 27257, status: 'ready' });
  expect(parsePostmasterFile('4711\n')).toMatchObject({ processId: 4711, status: '' });
  expect(parsePostmasterFile('')).toBeNull();
  expect(parsePostmasterFile('-4711\n/data')).toBeNull();
});

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

it('doubles its pauses up to ten seconds', () => {
  expect([0, 1, 2, 6, 100].map(retryMs)).toEqual([200, 400, 800, 10_000, 10_000]);
});
