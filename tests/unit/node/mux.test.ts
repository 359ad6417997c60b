import { once } from 'node:events';
import { createServer as createHttp, request } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DeadlockAnswers } from '../../../src/gateway/deadlock-answers.ts';
import { Hellos } from '../../../src/gateway/hellos.ts';
import { PassThrough } from '../../../src/gateway/pass-through.ts';
import { freePorts } from '../../../src/local/free-ports.ts';
import { ClientSessions } from '../../../src/node/client-sessions.ts';
import { createMux, type Mux } from '../../../src/node/mux.ts';
import { OWN_ROLES } from '../../../src/postgres/config.ts';

/** A startup packet of protocol 3.0 without parameters. */
const STARTUP = Buffer.from([0, 0, 0, 9, 0, 3, 0, 0, 0]);

let port: number;
let mux: Mux;
let sessions: PassThrough;
let http: ReturnType<typeof createHttp>;
let upstream: Server;
let upstreamSockets: Socket[];
let target: { host: string; port: number };
/** Sessions that were let in. */
let inside: number;

beforeEach(async () => {
  upstreamSockets = [];
  upstream = createServer({ allowHalfOpen: true }, (socket) => {
    upstreamSockets.push(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  target = { host: '127.0.0.1', port: (upstream.address() as AddressInfo).port };
  http = createHttp((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => response.end(`${incoming.method} ${Buffer.concat(chunks).length}`));
  });
  inside = 0;
  const admission = new ClientSessions({ target: () => target, sessionsMax: 3 });
  sessions = new PassThrough({
    answers: new DeadlockAnswers(),
    admit: (who) => {
      const verdict = admission.admit(who);
      const isSession = 'to' in verdict && who.kind === 'startup';
      if (isSession) inside += 1;
      const ended = () => {
        if ('to' in verdict) admission.left(who.kind);
        if (isSession) inside -= 1;
      };
      return { verdict: Promise.resolve(verdict), ended };
    },
  });
  // What a worker does, without another process in between.
  const hellos = new Hellos(1_000);
  mux = createMux({
    onHttp: (socket) => http.emit('connection', socket),
    onPostgres: (socket, begun, takenOver) => {
      takenOver();
      expect(begun.length).toBeGreaterThan(0);
      sessions.receive(socket, hellos.add(socket));
    },
    helloMs: 1_000,
  });
  [port] = (await freePorts(1)) as [number];
  await mux.listen('--listen-addr', { host: '127.0.0.1', port });
});
afterEach(async () => {
  mux.close();
  await sessions.close(0);
  http.closeAllConnections();
  for (const socket of upstreamSockets) socket.destroy();
  upstream.close();
});

/** Its end, or the reset that comes before it where the client is still writing. */
function turnedAway(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    for (const sign of ['end', 'error', 'close']) socket.once(sign, () => resolve());
  });
}

function dial(): Socket {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  socket.on('error', () => {});
  return socket;
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function post(body: Buffer): Promise<string> {
  const call = request({ host: '127.0.0.1', port, method: 'POST', agent: false });
  call.write(body.subarray(0, 10));
  await sleep(20);
  call.end(body.subarray(10));
  const [response] = await once(call, 'response');
  return (await readAll(response)).toString();
}

describe('mux', () => {
  it('hands HTTP to the HTTP server, bodies in pieces included', async () => {
    expect(await post(Buffer.alloc(300_000, 'x'))).toBe('POST 300000');
    expect(inside).toBe(0);
  });

  it('pipes PostgreSQL both ways, through backpressure and half-close', async () => {
    const client = dial();
    const body = Buffer.alloc(20 << 20, 7);
    client.write(STARTUP);
    client.end(body);
    const got = await readAll(client);
    expect(got.length).toBe(STARTUP.length + body.length);
    await expect.poll(() => inside).toBe(0);
  });

  it('takes a startup packet that comes byte by byte', async () => {
    const client = dial();
    for (const byte of STARTUP) {
      client.write(Buffer.from([byte]));
      await sleep(2);
    }
    client.end();
    expect(await readAll(client)).toEqual(STARTUP);
  });

  it('ends either side with the other', async () => {
    const first = dial();
    first.write(STARTUP);
    await once(first, 'data');
    upstreamSockets[0]?.destroy();
    await once(first, 'end');
    first.destroy();
    const second = dial();
    second.write(STARTUP);
    await once(second, 'data');
    second.resetAndDestroy();
    await once(upstreamSockets[1] as Socket, 'close');
    await expect.poll(() => inside).toBe(0);
  });

  it('closes silent and foreign clients', async () => {
    const silent = dial();
    const foreign = dial();
    foreign.write(Buffer.from([0x16, 3, 1]));
    expect(await readAll(silent)).toHaveLength(0);
    expect(await readAll(foreign)).toHaveLength(0);
  });

  it('answers 57P03 while PostgreSQL is away', async () => {
    [target.port] = (await freePorts(1)) as [number];
    const client = new Client({ host: '127.0.0.1', port, user: 'tide', database: 'tide' });
    await expect(client.connect()).rejects.toMatchObject({ code: '57P03', severity: 'FATAL' });
    const withSsl = dial();
    withSsl.write(Buffer.from([0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]));
    expect((await once(withSsl, 'data'))[0].toString()).toBe('N');
    withSsl.write(STARTUP);
    expect((await once(withSsl, 'data'))[0].toString()).toContain('C57P03');
    withSsl.destroy();
    await expect.poll(() => inside).toBe(0);
  });

  it("refuses pgtide's own roles, wherever they stand in the message, and asks nobody", async () => {
    for (const user of OWN_ROLES) {
      const client = new Client({ host: '127.0.0.1', port, user, database: 'tide' });
      await expect(client.connect(), user).rejects.toMatchObject({
        code: '28000',
        message: expect.stringContaining(user),
        hint: expect.stringContaining('tide'),
      });
    }
    const twice = Buffer.from('\0\x03\0\0database\0tide\0user\0tide\0user\0tide_manager\0\0', 'latin1');
    const socket = dial();
    socket.write(Buffer.concat([Buffer.from([0, 0, 0, twice.length + 4]), twice]));
    expect((await once(socket, 'data'))[0].toString()).toContain('C28000');
    const asDatabase = Buffer.from('\0\x03\0\0database\0user\0user\0tide\0\0', 'latin1');
    const other = dial();
    other.write(Buffer.concat([Buffer.from([0, 0, 0, asDatabase.length + 4]), asDatabase]));
    expect((await once(other, 'data'))[0].subarray(4)).toEqual(asDatabase);
  });

  it('lets so many sessions in, tells the next one why not, and takes requests to cancel all the same', async () => {
    const clients = Array.from({ length: 3 }, () => {
      const socket = dial();
      socket.write(STARTUP);
      return socket;
    });
    await Promise.all(clients.map((socket) => once(socket, 'data')));
    const client = new Client({ host: '127.0.0.1', port, user: 'tide', database: 'tide' });
    await expect(client.connect()).rejects.toMatchObject({
      code: '53300',
      message: 'sorry, too many clients already',
      hint: expect.stringContaining('--max-clients'),
    });
    const cancel = dial();
    const request = Buffer.from([0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2]);
    cancel.write(request);
    expect((await once(cancel, 'data'))[0]).toEqual(request);
    expect(inside).toBe(3);
    clients[0]?.destroy();
    await expect.poll(() => inside).toBe(2);
    const next = dial();
    next.write(STARTUP);
    expect((await once(next, 'data'))[0]).toEqual(STARTUP);
  });

  it('has nobody reach PostgreSQL with half of a startup message, or take longer for it than is given', async () => {
    const half = Array.from({ length: 50 }, () => {
      const socket = dial();
      socket.write(STARTUP.subarray(0, 5));
      return socket.resume();
    });
    const drip = dial();
    drip.resume();
    // A whole one would take 500 s at this pace.
    const LONG = Buffer.concat([Buffer.from([0, 0, 0x27, 0x10, 0, 3, 0, 0]), Buffer.alloc(9_992, 'x')]);
    let at = 0;
    const dripping = setInterval(() => drip.write(LONG.subarray(at++, at)), 50);
    await Promise.all([...half, drip].map(turnedAway));
    clearInterval(dripping);
    expect(upstreamSockets).toHaveLength(0);
  });

  it('keeps a thousand that have not said who they are, and closes the oldest', async () => {
    const slow = createMux({ onHttp: () => {}, onPostgres: () => {}, helloMs: 60_000 });
    const [slowPort] = (await freePorts(1)) as [number];
    await slow.listen('--listen-addr', { host: '127.0.0.1', port: slowPort });
    const sockets: Socket[] = [];
    for (let i = 0; i < 1_100; i++) {
      const socket = connect({ host: '127.0.0.1', port: slowPort })
        .on('error', () => {})
        .resume();
      sockets.push(socket);
      await once(socket, 'connect');
    }
    const closed = () => sockets.filter((s) => s.closed).length;
    await expect.poll(closed, { timeout: 20_000 }).toBe(100);
    expect(sockets.slice(0, 100).every((s) => s.closed)).toBe(true);
    slow.close();
    for (const socket of sockets) socket.destroy();
  });

  it('drains: waits for sessions, takes no new ones; close cuts them', async () => {
    const client = dial();
    client.write(STARTUP);
    await once(client, 'data');
    expect(inside).toBe(1);
    let drained = false;
    mux.close();
    const drain = sessions.drain().then(() => {
      drained = true;
    });
    const late = dial();
    await new Promise((resolve) => late.once('close', resolve));
    expect(drained).toBe(false);
    await sessions.close(10);
    await drain;
    expect(inside).toBe(0);
    client.destroy();
  });
});
