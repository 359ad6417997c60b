import { readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { renderConfig, socketDirFor } from '../../../src/postgres/config.ts';
import { parsePostmasterFile } from '../../../src/postgres/postmaster.ts';
import { retryMs } from '../../../src/postgres/supervise.ts';
import { oddText } from './support/odd-text.ts';

/**
 * A server that runs with another text is restarted, so this one changes on purpose only. `REWRITE=1 npx
 * vitest run --project unit tests/unit/postgres/config.test.ts` writes the file.
 */
const FILE = new URL('testdata/pgtide.conf', import.meta.url);

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

it('says the same at every start', () => {
  const text = renderConfig(base);
  if (process.env.REWRITE) writeFileSync(FILE, text);
  expect(text).toBe(readFileSync(FILE, 'utf8'));
});

/** As PostgreSQL reads a file of settings (guc-file.l), where no name is there twice. */
function readSettings(text: string): Record<string, string> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const read = lines.map((line) => /^(\w+) = (?:(-?\d+)|'((?:[^'\\]|\\.|'')*)')$/s.exec(line) ?? [line, line]);
  const names = read.map(([, name]) => name);
  expect(names).toEqual([...new Set(names)]);
  const plain = (value = 'cannot be read') => value.replace(/\\(.)|'(')/gs, '$1$2');
  return Object.fromEntries(read.map(([, name, number, value]) => [name, number ?? plain(value)]));
}

/** As PostgreSQL reads a list of directories (SplitDirectoriesString). */
function readDirectories(list: string): string[] {
  const entries = [...list.matchAll(/\s*(?:"((?:[^"]|"")*)"|([^",][^,]*?))\s*(?:,|$)/gy)];
  return entries.map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '');
}

it('is read as it was meant', () => {
  const dir = oddText().map((name) => `/${name}`);
  const mb = fc.integer({ min: 1, max: 1_000_000 });
  fc.assert(
    fc.property(dir, mb, mb, (socketDir, sharedBuffersMb, slotWalKeepMb) => {
      const read = readSettings(renderConfig({ ...base, socketDir, sharedBuffersMb, slotWalKeepMb }));
      expect(readDirectories(read.unix_socket_directories ?? '')).toEqual([socketDir]);
      expect(read).toMatchObject({
        shared_buffers: `${sharedBuffersMb}MB`,
        max_slot_wal_keep_size: `${slotWalKeepMb}MB`,
      });
      // PostgreSQL takes no less than twice a segment of 16 MB.
      expect(Number.parseInt(read.max_wal_size ?? '', 10)).toBeGreaterThanOrEqual(32);
    }),
  );
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

it('doubles its pauses up to ten seconds', () => {
  expect([0, 1, 2, 6, 100].map(retryMs)).toEqual([200, 400, 800, 10_000, 10_000]);
});
