import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { must } from '../../../src/core/assert.ts';
import { type Execution, type Loss, ServerConnection } from '../../../src/gateway/servers/server-connection.ts';
import { readBind } from '../../../src/gateway/wire/extended.ts';
import {
  bindComplete,
  commandComplete,
  error,
  message,
  parseComplete,
  ready,
  row,
  ScriptedServer,
  type Served,
} from './support/scripted-server.ts';

/**
 * What happens to statements of several clients on one connection, whatever the server and the clients do.
 */

let server: ScriptedServer;
let connection: ServerConnection;
let session: Served;

beforeEach(async () => {
  server = await ScriptedServer.start('as it should be');
  const opened = await ServerConnection.open(server.address, new Map([['user', 'peer']]), 'how are you');
  expect(opened.answer).toBe('as it should be');
  connection = opened.connection;
  session = must(server.sessions[0], 'session');
});
afterEach(async () => {
  connection.lose('the test is over');
  await server.close();
});

interface Heard {
  readonly bytes: Buffer[];
  outcome: string | null;
  loss: Loss | null;
}

const BIND = message('B', Buffer.concat([Buffer.from('\0\0'), Buffer.alloc(6)]));

/** Executes a statement for a client of its own. */
function execute(text: string, takes = () => true, saysParsed = false) {
  const heard: Heard = { bytes: [], outcome: null, loss: null };
  const execution: Execution = {
    statement: { text, types: [], key: text },
    bind: BIND,
    bound: must(readBind(BIND), 'bind'),
    describes: false,
    saysParsed,
    answer: (bytes) => {
      heard.bytes.push(Buffer.from(bytes));
      return takes();
    },
    exchange: (bytes) => bytes,
    notHere: () => {
      heard.outcome = 'not here';
    },
    done: (wasParsed) => {
      heard.outcome = wasParsed ? 'done' : 'unparsed';
    },
    lost: (loss) => {
      heard.outcome = 'lost';
      heard.loss = loss;
    },
  };
  const running = connection.execute(execution);
  return { heard, running };
}

const answer = (text: string) => Buffer.concat([bindComplete, row(text), commandComplete, ready]);
const eventually = (holds: () => Promise<void>) => vi.waitFor(holds, { timeout: 10_000, interval: 5 });
const said = ({ bytes }: Heard) => Buffer.concat(bytes);
const hears = (types: string) => eventually(async () => expect(session.heard).toBe(types));

test('each client hears the answer to its own, in order, and a text is sent once', async () => {
  const [a, b] = [execute('a'), execute('b')];
  await hears('PBESPBES');
  session.socket.write(Buffer.concat([parseComplete, answer('1'), parseComplete, answer('2')]));
  await eventually(async () => expect([a.heard.outcome, b.heard.outcome]).toEqual(['done', 'done']));
  expect(said(a.heard)).toEqual(answer('1'));
  expect(said(b.heard)).toEqual(answer('2'));
  const again = execute('a');
  await hears('PBESPBESBES');
  session.socket.write(answer('3'));
  await eventually(async () => expect(said(again.heard)).toEqual(answer('3')));
});

test('answers come in any pieces', async () => {
  const { heard } = execute('a');
  await hears('PBES');
  for (const byte of Buffer.concat([parseComplete, answer('some text')])) session.socket.write(Buffer.from([byte]));
  await eventually(async () => expect(heard.outcome).toBe('done'));
  expect(said(heard)).toEqual(answer('some text'));
});

test('a table that is not there, or not for us: nothing was said, and it is done elsewhere', async () => {
  const codes = ['42P01', '3F000', '42501'];
  const all = codes.map((code) => execute(code));
  await hears('PBES'.repeat(3));
  for (const code of codes) session.socket.write(Buffer.concat([error(code), ready]));
  await eventually(async () => expect(all.map(({ heard }) => heard.outcome)).toEqual(codes.map(() => 'not here')));
  expect(all.flatMap(({ heard }) => heard.bytes)).toEqual([]);
  const other = execute('22012');
  session.socket.write(Buffer.concat([error('22012'), ready]));
  await eventually(async () => expect(other.heard.outcome).toBe('unparsed'));
  expect(said(other.heard)).toEqual(Buffer.concat([error('22012'), ready]));
});

test('whoever waits to hear that the statement is one hears it first, and nothing where it is done elsewhere', async () => {
  const all = [execute('a', undefined, true), execute('b', undefined, true), execute('c', undefined, true)];
  await hears('PBESPBESPBES');
  session.socket.write(Buffer.concat([parseComplete, error('42P01'), ready]));
  session.socket.write(Buffer.concat([parseComplete, bindComplete, error('23505'), ready]));
  session.socket.write(Buffer.concat([error('42601'), ready]));
  await eventually(async () => expect(all.map(({ heard }) => heard.outcome)).toEqual(['not here', 'done', 'unparsed']));
  expect(all.map(({ heard }) => said(heard))).toEqual([
    Buffer.alloc(0),
    Buffer.concat([parseComplete, bindComplete, error('23505'), ready]),
    Buffer.concat([error('42601'), ready]),
  ]);
  const again = execute('b', undefined, true);
  await hears('PBESPBESPBESBES');
  session.socket.write(answer('1'));
  await eventually(async () => expect(said(again.heard)).toEqual(Buffer.concat([parseComplete, answer('1')])));
});

test('a client that does not read stops the server, and nobody after it', async () => {
  let takes = false;
  const slow = execute('a', () => takes);
  await hears('PBES');
  const rows = Array.from({ length: 200 }, () => row('x'.repeat(10_000)));
  session.socket.write(Buffer.concat([parseComplete, bindComplete, ...rows, commandComplete]));
  await eventually(async () => expect(slow.heard.bytes.length).toBeGreaterThan(0));
  takes = true;
  slow.running.resume();
  session.socket.write(ready);
  await eventually(async () => expect(slow.heard.outcome).toBe('done'));
  // The last word of an answer that its client does not take: the next one is another's.
  const unread = execute('a', () => false);
  await hears('PBESBES');
  session.socket.write(answer('1'));
  await eventually(async () => expect(unread.heard.outcome).toBe('done'));
  const next = execute('a');
  await hears('PBESBESBES');
  session.socket.write(answer('2'));
  await eventually(async () => expect(said(next.heard)).toEqual(answer('2')));
});

test('a client that has gone: its statement is cancelled, and nobody gets that connection any more', async () => {
  const gone = execute('a', () => false);
  await hears('PBES');
  session.socket.write(Buffer.concat([parseComplete, bindComplete, row('x'.repeat(100_000))]));
  await eventually(async () => expect(gone.heard.bytes.length).toBeGreaterThan(0));
  gone.running.leave();
  await eventually(async () => expect(server.cancels).toBe(1));
  expect(connection.takes({ text: 'b', types: [], key: 'b' })).toBe(false);
  session.socket.write(Buffer.concat([row('x'.repeat(100_000)), error('57014'), ready]));
  await eventually(async () => expect(session.socket.destroyed || session.socket.readableEnded).toBe(true));
  expect(gone.heard.outcome).toBeNull();
});

test('one that shares: it is told that it was cancelled, and the others hear their own answers', async () => {
  const [first, second, third] = [execute('a'), execute('b'), execute('c')];
  await hears('PBESPBESPBES');
  expect(second.running.cancel()).toBe(true);
  third.running.leave();
  session.socket.write(Buffer.concat([parseComplete, answer('1'), parseComplete, answer('2'), parseComplete]));
  session.socket.write(answer('3'));
  const fourth = execute('d');
  session.socket.write(Buffer.concat([parseComplete, answer('4')]));
  await eventually(async () => expect(fourth.heard.outcome).toBe('done'));
  expect(said(first.heard)).toEqual(answer('1'));
  expect(said(fourth.heard)).toEqual(answer('4'));
  expect([second.heard, third.heard]).toEqual([
    { bytes: [], outcome: null, loss: null },
    { bytes: [], outcome: null, loss: null },
  ]);
  expect(server.cancels).toBe(0);
});

test('alone on it, it is the server that says that it was cancelled', async () => {
  const { heard, running } = execute('a');
  await hears('PBES');
  expect(running.cancel()).toBe(false);
  await eventually(async () => expect(server.cancels).toBe(1));
  session.socket.write(Buffer.concat([parseComplete, bindComplete, error('57014'), ready]));
  await eventually(async () => expect(heard.outcome).toBe('done'));
  expect(said(heard)).toEqual(Buffer.concat([bindComplete, error('57014'), ready]));
});

test('a connection that is lost: who was answered what, and who was never sent', async () => {
  const [half, waiting] = [execute('a'), execute('b')];
  await hears('PBESPBES');
  session.socket.write(Buffer.concat([parseComplete, bindComplete, row('x'.repeat(5_000)).subarray(0, 3_000)]));
  await eventually(async () => expect(said(half.heard).length).toBe(3_005));
  const closed: string[] = [];
  connection.onClose(() => closed.push(`${half.heard.outcome}`));
  session.socket.end(error('57P01', 'FATAL'));
  await eventually(async () => expect([half.heard.outcome, waiting.heard.outcome]).toEqual(['lost', 'lost']));
  expect(half.heard.loss).toMatchObject({ answered: true, saidParsed: true, isTorn: true });
  expect(waiting.heard.loss).toMatchObject({ answered: false, saidParsed: false, isTorn: false });
  // Whoever is told may ask for a connection at once: this one is none any more.
  expect(closed).toEqual(['null']);
  expect(connection.takes({ text: 'b', types: [], key: 'b' })).toBe(false);
});

test('what was never sent is done elsewhere, whatever it is', async () => {
  const sent = execute('a');
  await hears('PBES');
  const unsent = execute('b');
  connection.lose('node 2 is out');
  await eventually(async () => expect([sent.heard.outcome, unsent.heard.outcome]).toEqual(['lost', 'not here']));
  expect(sent.heard.loss).toMatchObject({ why: 'node 2 is out', answered: false });
});
