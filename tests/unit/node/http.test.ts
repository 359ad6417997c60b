import { once } from 'node:events';
import { createServer, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CallName } from '../../../src/api/calls.ts';
import { BODY_BYTES_MAX } from '../../../src/api/client.ts';
import { FAREWELL_TARGET, watchEnd } from '../../../src/api/farewell.ts';
import { CALLER_CLUSTER } from '../../../src/api/headers.ts';
import { ask } from '../../../src/api/http-client.ts';
import type { BeatReport } from '../../../src/api/membership.ts';
import { must } from '../../../src/core/assert.ts';
import { Farewell } from '../../../src/node/farewell.ts';
import { createHttp, type HttpPorts } from '../../../src/node/http.ts';
import { isTooDeep } from '../../../src/node/http-load.ts';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';
import { createMux, type Mux } from '../../../src/node/mux.ts';

/** The admin API as it is reached: through both ports, by real requests. */

const ROUTES: CallName[] = [
  'admin',
  'join',
  'start',
  'beat',
  'meta/part',
  'meta/receive',
  'meta/activate',
  'meta/check',
  'whoami',
  'quit',
];
const WHO = { nodeId: 1, clusterId: 'c', startMode: 'start', manager: 'h:1', meta: null } as const;

let app: FastifyInstance;
let mux: Mux;
let muxPort: number;
let httpPort: number;
let quits: number;
let logged: object[];
let run: (command: unknown) => Promise<unknown>;
let hasManager: boolean;
let managerAddress: string;
let hasId: boolean;
let farewell: Farewell;
const open = new Set<Socket>();

beforeEach(async () => {
  quits = 0;
  farewell = new Farewell();
  logged = [];
  hasManager = true;
  managerAddress = '127.0.0.1:1';
  hasId = true;
  run = async () => 'done';
  const manager: Partial<ManagerHandle> = {
    run: (command) => run(command),
    beat: async () => ({ state: 'active' }) as never,
  };
  const ports = {
    names: new Set(['localhost', 'db1']),
    onConnect: (request: IncomingMessage, socket: Duplex) => farewell.receive(request, socket),
    ready: () => true,
    manager: () => (hasManager ? manager : null),
    whoAmI: () => WHO,
    clusterId: () => (hasId ? WHO.clusterId : null),
    quit: () => {
      quits += 1;
    },
    withManager: (send: (address: string) => Promise<unknown>) => send(managerAddress),
    isShared: () => false,
    mover: {},
    log: (_level: string, _message: string, facts: object) => logged.push(facts),
  };
  app = createHttp(ports as unknown as HttpPorts);
  await app.listen({ host: '127.0.0.1', port: 0 });
  httpPort = (app.server.address() as AddressInfo).port;
  mux = createMux({
    onHttp: (socket) => app.server.emit('connection', socket),
    onPostgres: (socket) => socket.destroy(),
  });
  muxPort = httpPort;
  for (let tries = 0; muxPort === httpPort; tries++) {
    const port = 15_000 + Math.floor(Math.random() * 16_000);
    await mux.listen('--listen-addr', { host: '127.0.0.1', port }).then(
      () => {
        muxPort = port;
      },
      (error) => {
        if (tries > 20) throw error;
      },
    );
  }
});
afterEach(async () => {
  for (const socket of open) socket.destroy();
  mux.close();
  await app.close();
});

type Answer = { status: number; code: string | undefined };

function send(port: number, method: string, path: string, headers: object, body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(
      { host: '127.0.0.1', port, path, method, agent: false, headers: { ...headers } as Record<string, string> },
      async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        const answer = JSON.parse(text || '{}') as { error?: { code: string; hint: string } };
        if (answer.error) expect(answer.error.hint).not.toBe('');
        resolve({ status: response.statusCode ?? 0, code: answer.error?.code });
      },
    );
    call.on('error', reject);
    call.end(body);
  });
}

function dial(port: number): Socket {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => {}).resume();
  open.add(socket);
  return socket;
}

const JSON_TYPE = { 'content-type': 'application/json' };
const EVERYWHERE = [
  ...ROUTES.map((route) => ['POST', `/api/v1/${route}`] as const),
  ['GET', '/health'] as const,
  ['GET', '/nowhere'] as const,
];

describe('a web page of a stranger', () => {
  it.each(EVERYWHERE)('cannot %s %s, on either port', async (method, path) => {
    for (const port of [muxPort, httpPort]) {
      const own = `127.0.0.1:${port}`;
      const from = (headers: object) =>
        send(port, method, path, { host: own, ...JSON_TYPE, ...headers }, method === 'POST' ? '{}' : '');
      const origins = ['https://evil.example', 'null', `http://127.0.0.1:${port + 1}`, `http://evil.example@${own}`];
      for (const origin of origins) expect(await from({ origin })).toEqual({ status: 403, code: 'FOREIGN_ORIGIN' });
      for (const site of ['cross-site', 'same-site'])
        expect(await from({ 'sec-fetch-site': site })).toEqual({ status: 403, code: 'FOREIGN_ORIGIN' });
      const hosts = ['evil.example', `evil.example:${port}`, `db1.evil.example:${port}`, `127.0.0.1.evil.example`];
      for (const host of hosts) expect(await from({ host })).toEqual({ status: 421, code: 'FOREIGN_HOST' });
    }
    expect(quits).toBe(0);
  });

  it.each(ROUTES)('has nothing in what a page may send unasked: /api/v1/%s takes JSON only', async (route) => {
    const types = [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/jsonx',
    ];
    for (const type of types) {
      const answer = await send(muxPort, 'POST', `/api/v1/${route}`, { 'content-type': type }, '{}');
      expect(answer).toEqual({ status: 415, code: 'NOT_JSON' });
    }
    expect(await send(muxPort, 'POST', `/api/v1/${route}`, {})).toEqual({ status: 415, code: 'NOT_JSON' });
    expect(quits).toBe(0);
  });

  it('cannot watch the end of a node, on either port', async () => {
    for (const port of [muxPort, httpPort]) {
      const own = `host: 127.0.0.1:${port}`;
      const watch = async (...headers: string[]) => {
        const socket = dial(port);
        socket.write(`CONNECT ${FAREWELL_TARGET} HTTP/1.1\r\n${headers.join('\r\n')}\r\n\r\n`);
        return String((await once(socket, 'data'))[0]);
      };
      expect(await watch('host: evil.example')).toMatch(/^HTTP\/1.1 421 .*"FOREIGN_HOST"/s);
      expect(await watch(own, 'origin: https://evil.example')).toMatch(/^HTTP\/1.1 403 .*"FOREIGN_ORIGIN"/s);
      expect(await watch(own, 'sec-fetch-site: cross-site')).toMatch(/^HTTP\/1.1 403 .*"FOREIGN_ORIGIN"/s);
      expect(await watch(own)).toMatch(/^HTTP\/1.1 200 /);
    }
  });

  it('whatever name it has, is not taken for one of ours', async () => {
    const known = ['localhost', 'db1'];
    await fc.assert(
      fc.asyncProperty(fc.domain(), fc.constantFrom('', '.', ':80', ':'), async (name, end) => {
        fc.pre(!known.includes(name.toLowerCase()));
        expect((await send(httpPort, 'GET', '/health', { host: `${name}${end}` })).status).toBe(421);
      }),
      { numRuns: 60 },
    );
  });
});

describe('the admin API', () => {
  it('is there under every name that is its own, and for its own pages', async () => {
    for (const host of ['db1', 'DB1:1', 'db1.', 'localhost:9', '10.0.0.1', '[::1]:5', '[fe80::1]', '127.0.0.1:1']) {
      expect((await send(muxPort, 'GET', '/health', { host })).status).toBe(200);
      const origin = `http://${host}`;
      expect((await send(muxPort, 'GET', '/health', { host, origin, 'sec-fetch-site': 'same-origin' })).status).toBe(
        200,
      );
    }
    const type = 'application/json; charset=utf-8';
    expect((await send(muxPort, 'POST', '/api/v1/whoami', { 'content-type': type }, '{}')).status).toBe(200);
    const socket = dial(httpPort);
    socket.write('GET /health HTTP/1.0\r\n\r\n');
    expect(String((await once(socket, 'data'))[0])).toContain('200 OK');
  });

  it('answers who offers another protocol, as clients do that know HTTP/2', async () => {
    const offer = { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABk' };
    expect((await send(muxPort, 'GET', '/health', offer)).status).toBe(200);
  });

  it('takes our own calls by whatever name they came', async () => {
    expect(await ask(`localhost:${muxPort}`, 'whoami', {})).toEqual(WHO);
    expect((await send(muxPort, 'GET', '/health', { host: 'alias.example', 'sec-pgtide': '1' })).status).toBe(200);
  });

  it.each(ROUTES.filter((route) => !['whoami', 'quit'].includes(route)))(
    'answers what is no object with BAD_REQUEST: /api/v1/%s, manager or not',
    async (route) => {
      for (hasManager of [true, false])
        for (const body of [
          '',
          'null',
          '[]',
          '1',
          '"x"',
          '{',
          `${'['.repeat(5_000)}${']'.repeat(5_000)}`,
          '{"__proto__":{}}',
        ])
          expect(await send(muxPort, 'POST', `/api/v1/${route}`, JSON_TYPE, body)).toEqual({
            status: 400,
            code: 'BAD_REQUEST',
          });
    },
  );

  it('says 404 for what it has not, and 500, with the stack in the log, for a defect', async () => {
    expect(await send(muxPort, 'GET', '/api/v1/admin', {})).toEqual({ status: 404, code: 'ROUTE_UNKNOWN' });
    expect(await send(muxPort, 'DELETE', '/health', JSON_TYPE)).toEqual({ status: 404, code: 'ROUTE_UNKNOWN' });
    expect(await send(muxPort, 'POST', '/other', JSON_TYPE, '{}')).toEqual({ status: 404, code: 'ROUTE_UNKNOWN' });
    run = async () => {
      throw new Error('broken');
    };
    expect(await send(muxPort, 'POST', '/api/v1/admin', JSON_TYPE, '{"do":"node-status"}')).toEqual({
      status: 500,
      code: 'INTERNAL',
    });
    expect(logged).toEqual([expect.objectContaining({ error: expect.stringContaining('http.test.ts') })]);
    await expect(ask(`127.0.0.1:${muxPort}`, 'admin', { do: 'node-status' })).rejects.toMatchObject({
      code: 'INTERNAL',
    });
  });

  it('reads no body that is longer than its route takes, said or unsaid', async () => {
    const said = dial(muxPort);
    said.write(
      `POST /api/v1/admin HTTP/1.1\r\nhost: db1\r\ncontent-type: application/json\r\ncontent-length: ${540 << 20}\r\n\r\n`,
    );
    const [first] = await once(said, 'data');
    expect(String(first)).toMatch(/ 413 [\s\S]*BODY_TOO_LARGE/);
    const unsaid = dial(muxPort);
    unsaid.write(
      'POST /api/v1/admin HTTP/1.1\r\nhost: db1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n',
    );
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
    let answer = '';
    unsaid.on('data', (data) => {
      answer += String(data);
    });
    for (let sent = 0; sent < 64 && answer === '' && !unsaid.destroyed; sent++) {
      unsaid.write(chunk);
      await sleep(5);
    }
    expect(answer).toMatch(/ 413 [\s\S]*BODY_TOO_LARGE/);
    await expect(ask(`127.0.0.1:${muxPort}`, 'meta/check', { url: ' '.repeat(BODY_BYTES_MAX) })).rejects.toMatchObject({
      code: 'BODY_TOO_LARGE',
    });
  });

  it('takes one long body at a time', async () => {
    const head =
      'POST /api/v1/meta/part HTTP/1.1\r\nhost: db1\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n\r\n';
    const first = dial(muxPort);
    first.write(head);
    await expect
      .poll(() => send(muxPort, 'POST', '/api/v1/meta/part', JSON_TYPE, '{}'))
      .toEqual({ status: 503, code: 'NODE_BUSY' });
    first.destroy();
    await expect
      .poll(() => send(muxPort, 'POST', '/api/v1/meta/part', JSON_TYPE, '{}'))
      .toEqual({ status: 400, code: 'BAD_REQUEST' });
  });
});

describe('a node of another cluster', () => {
  it.each(ROUTES.filter((route) => route !== 'quit'))('is refused on %s, whatever it wants', async (route) => {
    const call = ask(`127.0.0.1:${muxPort}`, route, {} as never, { cluster: 'd' });
    await expect(call).rejects.toMatchObject({
      code: 'CLUSTER_MISMATCH',
      details: { caller: 'd', cluster: 'c' },
    });
  });

  it('is no hindrance to those of this one, and to those who do not say', async () => {
    const call = (cluster?: string) => ask(`127.0.0.1:${muxPort}`, 'admin', { do: 'node-status' }, { cluster });
    expect(await call('c')).toBe('done');
    expect(await call()).toBe('done');
    hasId = false;
    expect(await call('d')).toBe('done');
  });

  it('hears from whom a call is that was passed on', async () => {
    hasManager = false;
    let heard: unknown;
    const manager = createServer((request, response) => {
      heard = request.headers[CALLER_CLUSTER];
      request.resume();
      response.end('{"result":"there"}');
    }).listen(0, '127.0.0.1');
    await once(manager, 'listening');
    managerAddress = `127.0.0.1:${(manager.address() as AddressInfo).port}`;
    expect(await ask(`127.0.0.1:${muxPort}`, 'admin', { do: 'node-status' })).toBe('there');
    expect(heard).toBe('c');
    manager.close();
  });
});

describe('a flood', () => {
  const beat = {
    node: 1,
    clusterId: 'c',
    postgresUp: true,
    fenced: false,
    leased: false,
    diskTotalBytes: 1,
    diskFreeBytes: 1,
    facts: {
      api: 2,
      address: 'a:1',
      httpAddress: 'a:2',
      postgresHost: 'a',
      postgresPort: 3,
      locality: [],
      attrs: [],
      build: '0',
      startedAt: '',
      startMode: 'start',
    },
  };
  const beats = async (count: number, onEach = () => {}): Promise<void> => {
    for (let i = 0; i < count; i++) {
      await ask(`127.0.0.1:${muxPort}`, 'beat', beat as unknown as BeatReport);
      onEach();
      await sleep(20);
    }
  };

  it('of commands is bounded, and beats are answered beside it', async () => {
    let running = 0;
    let most = 0;
    const ends: (() => void)[] = [];
    run = () =>
      new Promise((resolve) => {
        running += 1;
        most = Math.max(most, running);
        ends.push(() => {
          running -= 1;
          resolve('done');
        });
      });
    const calls = Array.from({ length: 300 }, () =>
      send(muxPort, 'POST', '/api/v1/admin', JSON_TYPE, '{"do":"node-status"}'),
    );
    await expect.poll(() => running).toBe(64);
    await beats(3);
    let settled = false;
    const all = Promise.all(calls).finally(() => {
      settled = true;
    });
    while (!settled) {
      for (const end of ends.splice(0)) end();
      await sleep(5);
    }
    const answers = await all;
    const refused = answers.filter((a) => a.status === 503 && a.code === 'NODE_BUSY').length;
    expect(refused).toBeGreaterThan(0);
    expect(answers.filter((a) => a.status === 200)).toHaveLength(300 - refused);
    expect(most).toBe(64);
  });

  it('of long bodies does not hold up beats', async () => {
    const long = JSON.stringify({ do: 'table-create', sql: 'x'.repeat(900_000) });
    let begun = 0;
    run = async () => {
      begun += 1;
    };
    let going = true;
    const flood = Array.from({ length: 24 }, async () => {
      while (going) await send(muxPort, 'POST', '/api/v1/admin', JSON_TYPE, long);
    });
    await expect.poll(() => begun, { timeout: 30_000 }).toBeGreaterThan(20);
    // Not in milliseconds, which on a busy machine say nothing: in what was done before a beat that came
    // later.
    let before = begun;
    const between: number[] = [];
    await beats(20, () => {
      between.push(begun - before);
      before = begun;
    });
    going = false;
    await Promise.all(flood);
    expect(begun).toBeGreaterThan(40);
    expect(Math.max(...between)).toBeLessThan(60);
  });

  it('ends no watch: a watcher would take that for the end of the node', async () => {
    const watch = must(await watchEnd(`127.0.0.1:${muxPort}`, 5_000), 'watch');
    const silent = Array.from({ length: 700 }, () => {
      const socket = dial(muxPort);
      socket.write('POST /api/v1/quit HTTP/1.1\r\n');
      return socket;
    });
    await expect.poll(() => silent.filter((s) => s.closed).length, { timeout: 30_000 }).toBeGreaterThan(100);
    farewell.say({ says: 'is there' });
    await expect.poll(() => watch.says).toBe('is there');
    expect(watch.end).toBeNull();
    watch.close();
  });

  it('of connections that say nothing, or half of it, pushes out its own, oldest first', async () => {
    const silent = Array.from({ length: 1_400 }, (_, i) => {
      const socket = dial(i % 2 === 0 ? muxPort : httpPort);
      socket.write('POST /api/v1/quit HTTP/1.1\r\nhost: db1\r\n');
      return socket;
    });
    await beats(5);
    const gone = () => silent.filter((s) => s.closed).length;
    await expect.poll(gone, { timeout: 30_000 }).toBeGreaterThan(800);
    expect(gone()).toBeLessThan(1_000);
    // Whoever came last is still there, and is sent away when the time for its headers is up.
    expect(silent[1_399]?.closed).toBe(false);
    await expect.poll(gone, { timeout: 60_000, interval: 200 }).toBe(1_400);
  });
});

describe('isTooDeep', () => {
  it('says so of what is nested, whatever stands in texts', () => {
    fc.assert(
      fc.property(fc.json(), fc.string(), (json, text) => {
        expect(isTooDeep(Buffer.from(json))).toBe(false);
        expect(isTooDeep(Buffer.from(JSON.stringify({ [text]: '['.repeat(200) })))).toBe(false);
      }),
    );
    expect(isTooDeep(Buffer.from(`${'{"a":'.repeat(101)}1${'}'.repeat(101)}`))).toBe(true);
    expect(isTooDeep(Buffer.from('[],'.repeat(1_000)))).toBe(false);
  });
});
