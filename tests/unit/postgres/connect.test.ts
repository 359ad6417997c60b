import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { firstMessage } from '../../../src/gateway/wire/startup.ts';
import {
  foreignConnection,
  inSession,
  ownServer,
  poolOf,
  type SessionOptions,
  streamConnection,
} from '../../../src/postgres/connect.ts';
import { KeptSession } from '../../../src/postgres/kept-session.ts';
import { ownOptions } from '../../../src/postgres/shield.ts';
import { oddText } from './support/odd-text.ts';

/** AuthenticationOk and ReadyForQuery; CommandComplete and ReadyForQuery. */
const WELCOME = Buffer.from('R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I', 'latin1');
const DONE = Buffer.from('C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I', 'latin1');

const OWN =
  '-c statement_timeout=0 -c lock_timeout=0 -c transaction_timeout=0 -c idle_in_transaction_session_timeout=0 ' +
  '-c idle_session_timeout=0 -c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off ' +
  '-c default_transaction_deferrable=off -c DateStyle=ISO,\\ MDY -c IntervalStyle=postgres -c TimeZone=UTC ' +
  '-c extra_float_digits=1 -c bytea_output=hex -c standard_conforming_strings=on -c role=none ' +
  '-c search_path=pg_catalog -c jit=off';

/** A server that lets everybody in and has nothing to say. */
let server: Server;
let sockets: Socket[];
let startups: Record<string, string>[];
let address: { host: string; port: number };

beforeEach(async () => {
  sockets = [];
  startups = [];
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.once('data', (bytes) => {
      const first = firstMessage(bytes);
      if (typeof first === 'object' && first.kind === 'startup') startups.push(Object.fromEntries(first.parameters));
      socket.write(WELCOME);
      socket.on('data', (message) => message[0] === 0x51 && socket.write(DONE));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
});
afterEach(() => {
  vi.unstubAllEnvs();
  for (const socket of sockets) socket.destroy();
  server.close();
});

const ASKED: SessionOptions = { name: 'pgtide test', connectMs: 5_000, answerMs: 5_000 };

describe('a session', () => {
  it('comes as the manager, under its name, bound by nobody else’s limits, whatever the environment says', async () => {
    vi.stubEnv('PGSSLMODE', 'require');
    vi.stubEnv('PGOPTIONS', '-c statement_timeout=1');
    await inSession(address, ASKED, async (client) => client.query('select 1'));
    expect(startups).toEqual([
      {
        user: 'tide_manager',
        database: 'tide',
        application_name: 'pgtide test',
        options: OWN,
        client_encoding: 'UTF8',
      },
    ]);
  });

  it('says what it wants in the place of what all have, or beside it', async () => {
    const settings = { statement_timeout: '300', event_triggers: 'off' };
    await inSession(address, { ...ASKED, role: 'ada', database: 'b', settings }, async () => {});
    expect(startups[0]).toMatchObject({
      user: 'ada',
      database: 'b',
      options: `${OWN.replace('statement_timeout=0', 'statement_timeout=300')} -c event_triggers=off`,
    });
  });

  it('of a pool is like any other', async () => {
    const pool = poolOf(address, { ...ASKED, max: 1, idleMs: 1_000 });
    await pool.query('select 1');
    await pool.end();
    expect(startups[0]).toMatchObject({ user: 'tide_manager', options: OWN });
  });

  it('ends with its work, and with its signal', async () => {
    const failed = inSession(address, ASKED, async () => {
      throw new Error('no more');
    });
    await expect(failed).rejects.toThrow('no more');
    const ending = new AbortController();
    const cut = inSession(
      address,
      ASKED,
      async (client) => {
        const ended = once(client, 'end');
        ending.abort();
        await ended;
      },
      ending.signal,
    );
    await cut;
    await expect.poll(() => sockets.map((socket) => socket.destroyed)).toEqual([true, true]);
  });
});

describe('a session that is kept', () => {
  it('is one for all statements, and another after one that failed', async () => {
    const kept = new KeptSession(() => ownServer(address), ASKED);
    expect(await kept.query('select 1')).toEqual([]);
    await kept.query('select 1');
    expect(startups).toHaveLength(1);
    sockets[0]?.destroy();
    await expect(kept.query('select 1')).rejects.toThrow();
    await kept.query('select 1');
    expect(startups).toHaveLength(2);
    await kept.close();
    await expect.poll(() => sockets.every((socket) => socket.destroyed)).toBe(true);
  });

  it('is asked for again where nobody was there, at the address of then', async () => {
    let port = 1;
    const kept = new KeptSession(() => ownServer({ port }), ASKED);
    await expect(kept.query('select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    port = address.port;
    expect(await kept.query('select 1')).toEqual([]);
    await kept.close();
  });
});

/** As servers keep them: other words would be taken for a change, and every stream would begin anew. */
describe('what is written into servers', () => {
  const PEER = { connect_timeout: '5', keepalives_idle: '5', keepalives_interval: '5', keepalives_count: '3' };

  it('for a stream', () => {
    expect(streamConnection({ host: 'db\\1', port: 5432 }, 'tide_1_2')).toBe(
      "host='db\\\\1' port='5432' dbname='tide' user='tide_stream' application_name='tide_1_2' connect_timeout='5' " +
        "keepalives_idle='5' keepalives_interval='5' keepalives_count='3' tcp_user_timeout='20000' " +
        "options='-c statement_timeout=0 -c lock_timeout=0 -c transaction_timeout=0 " +
        "-c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0'",
    );
  });

  it('for foreign tables', () => {
    expect(foreignConnection({ host: 'db1', port: 5432 }, 'tide n1 pid %p')).toEqual({
      host: 'db1',
      port: '5432',
      dbname: 'tide',
      application_name: 'tide n1 pid %p',
      ...PEER,
      tcp_user_timeout: '20000',
      options:
        '-c statement_timeout=0 -c transaction_timeout=0 -c idle_in_transaction_session_timeout=0 ' +
        '-c idle_session_timeout=0 -c default_transaction_read_only=off',
    });
  });

  it('and is read as it was meant', () => {
    fc.assert(
      fc.property(oddText(), oddText(), (host, stream) => {
        const read = readConninfo(streamConnection({ host, port: 5432 }, stream));
        expect(read).toMatchObject({ host, port: '5432', user: 'tide_stream', application_name: stream });
        expect(readOptions(read.options ?? '')).toMatchObject({ statement_timeout: '0', lock_timeout: '0' });
      }),
    );
    fc.assert(
      fc.property(oddText(), (asked) => {
        expect(readOptions(ownOptions({ search_path: asked }))).toMatchObject({ search_path: asked, role: 'none' });
      }),
    );
  });
});

/** As libpq reads a connection string in which every value is in quotes (conninfo_parse). */
function readConninfo(text: string): Record<string, string> {
  const found = [...text.matchAll(/(\w+)='((?:[^'\\]|\\.)*)'(?: |$)/gsy)];
  expect(found.map(([all]) => all).join('')).toBe(text);
  return Object.fromEntries(found.map(([, name, value = '']) => [name, value.replace(/\\(.)/gs, '$1')]));
}

/** As a server takes `options` apart (pg_split_opts): at blanks, but for those behind a backslash. */
function readOptions(text: string): Record<string, string> {
  const words = [...text.matchAll(/(?:[^ \t-\r\\]|\\.)+/gs)].map(([word]) => word.replace(/\\(.)/gs, '$1'));
  const settings = words.filter((word) => word !== '-c').map((word) => /^(.*?)=(.*)$/s.exec(word) ?? [word]);
  expect(settings).toHaveLength(words.length / 2);
  return Object.fromEntries(settings.map(([, name, value]) => [name, value]));
}
