import { beforeEach, describe, expect, it } from 'vitest';
import { AdminGate } from '../../../../src/gateway/admin/gate.ts';
import { CLIENT, ClientFrames } from '../../../../src/gateway/wire/client-frames.ts';
import { parseMessage, readParse } from '../../../../src/gateway/wire/extended.ts';
import { EXECUTE_ALL, framed, queryText, SYNC, simpleQuery } from '../../../../src/gateway/wire/messages.ts';

/** What the session behind was sent, and the node was asked for, in order. */
let happened: string[];
let done: ((text: string) => void)[];
let gate: AdminGate;
let frames: ClientFrames;

const NAMES = new Map<number, string>(Object.entries(CLIENT).map(([name, type]) => [type, name]));

beforeEach(() => {
  happened = [];
  done = [];
  const tell = (type: number | null, bytes: Buffer) => {
    const name = NAMES.get(type as number) ?? 'more';
    const text = name === 'query' ? queryText(bytes) : name === 'parse' ? (readParse(bytes)?.text ?? 'long') : null;
    happened.push(text === null ? name : `${name} ${text}`);
  };
  gate = new AdminGate(
    { message: tell, piece: tell, broken: () => happened.push('broken') },
    {
      look: (relations, then) => {
        happened.push(`look ${relations.join()}`);
        done.push(then);
      },
      perform: (_work, gives, then) => {
        happened.push(`perform for ${gives}`);
        done.push(then);
      },
      explain: (statement) => [`it's ${statement}`],
    },
  );
  frames = new ClientFrames(gate);
});

const send = (...messages: Buffer[]) => frames.take(Buffer.concat(messages));
const bind = (statement = '') => framed(0x42, Buffer.from(`\0${statement}\0\0\0\0\0\0\0`));
const close = (statement: string) => framed(0x43, Buffer.from(`S${statement}\0`));
const SET = 'SET CLUSTER SETTING rebalance.auto = off';
const DONE = 'CALL tide.done()';
const NODES = 'SELECT * FROM tide.nodes';

/** What has happened since it was asked last. */
function since(): string[] {
  return happened.splice(0);
}

function finish(text = DONE): void {
  const then = done.shift();
  expect(then).toBeDefined();
  then?.(text);
}

describe('a simple query', () => {
  it('that reads the cluster comes when that is up to date, and all that follows it waits', () => {
    send(simpleQuery('SHOW NODES'), simpleQuery('SELECT 1'));
    expect(since()).toEqual(['look nodes']);
    expect(gate.isWaiting).toBe(true);
    expect(gate.waitingBytes).toBeGreaterThan(0);
    finish();
    expect(since()).toEqual(['query SELECT * FROM tide.nodes ORDER BY id', 'query SELECT 1']);
    expect(gate.isWaiting).toBe(false);
    expect(gate.waitingBytes).toBe(0);
    send(simpleQuery('SHOW NODES'));
    expect(since()).toEqual(['look nodes']);
  });

  it('that changes the cluster is carried out, and what came of it is executed in its place', () => {
    send(simpleQuery(SET), simpleQuery('ALTER CLUSTER SCALE OUT'));
    expect(since()).toEqual(['perform for nothing']);
    finish();
    expect(since()).toEqual([`query ${DONE}`, 'perform for operation']);
    finish('SELECT 17');
    expect(since()).toEqual(['query SELECT 17']);
  });

  it('that is wrong asks nobody', () => {
    send(simpleQuery('ALTER CLUSTER'));
    expect(since()).toEqual([expect.stringMatching(/^query CALL tide\.refuse/)]);
  });

  it('of which there are ten thousand in one piece is one after the other', () => {
    send(...Array.from({ length: 10_000 }, () => simpleQuery('ALTER CLUSTER')), simpleQuery('SHOW NODES'));
    expect(since()).toHaveLength(10_001);
    finish();
    send(simpleQuery('SHOW NODES'), ...Array.from({ length: 10_000 }, () => simpleQuery(SET)));
    for (let i = 0; i <= 10_000; i++) finish();
    expect(gate.isWaiting).toBe(false);
  });
});

describe('a prepared statement', () => {
  it('reads what is so when it is prepared, and each time it is bound', () => {
    send(parseMessage('n', NODES, []), SYNC);
    expect(since()).toEqual(['look nodes']);
    finish();
    expect(since()).toEqual([`parse ${NODES}`, 'sync']);
    for (let i = 0; i < 2; i++) {
      send(bind('n'), EXECUTE_ALL, SYNC);
      expect(since()).toEqual(['look nodes']);
      finish();
      expect(since()).toEqual(['bind', 'execute', 'sync']);
    }
    send(close('n'), parseMessage('n', 'SELECT 1', []), bind('n'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['close', 'parse SELECT 1', 'bind', 'execute', 'sync']);
  });

  it('reads once what is sent up to a Sync', () => {
    send(parseMessage('', NODES, []), bind(), EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['look nodes']);
    finish();
    expect(since()).toEqual([`parse ${NODES}`, 'bind', 'execute', 'sync']);
  });

  it('reads what any of its name reads, as long as the server may have that', () => {
    send(parseMessage('n', NODES, []), parseMessage('n', 'SELECT 1', []), SYNC);
    finish();
    since();
    send(bind('n'), SYNC);
    expect(since()).toEqual(['look nodes']);
    finish();
    send(parseMessage('n', 'SELECT * FROM tide.events', []), SYNC);
    finish();
    since();
    send(bind('n'));
    expect(since()).toEqual(['look nodes,events']);
  });

  it('is refused where so many are prepared that it would not be known', () => {
    for (let i = 0; i < 1_000; i++) {
      send(parseMessage(`n${i}`, NODES, []), SYNC);
      finish();
    }
    since();
    send(parseMessage('more', NODES, []));
    finish();
    expect(since()).toEqual(['look nodes', expect.stringMatching(/^parse CALL tide\.refuse\('54000'/)]);
  });

  it('that changes the cluster fails', () => {
    send(parseMessage('', SET, []), bind(), EXECUTE_ALL, SYNC);
    expect(since()).toEqual([expect.stringMatching(/^parse CALL tide\.refuse\('0A000'/), 'bind', 'execute', 'sync']);
  });
});

it('how a statement would be executed is said in its place', () => {
  send(
    simpleQuery('EXPLAIN (ROUTE) SELECT 1'),
    parseMessage('', 'explain ( route ) TABLE t;', []),
    bind(),
    EXECUTE_ALL,
    SYNC,
  );
  expect(since()).toEqual([
    `query SELECT pg_catalog.unnest(ARRAY['it''s SELECT 1']::pg_catalog.text[]) AS "QUERY PLAN"`,
    `parse SELECT pg_catalog.unnest(ARRAY['it''s TABLE t;']::pg_catalog.text[]) AS "QUERY PLAN"`,
    'bind',
    'execute',
    'sync',
  ]);
});

it('a long text forgets nothing but what has its name', () => {
  send(parseMessage('n', NODES, []), SYNC);
  finish();
  since();
  const long = parseMessage('zz', `SELECT 1 ${' '.repeat(400_000)}`, []);
  send(long.subarray(0, 300_000));
  send(long.subarray(300_000));
  send(bind('n'));
  expect(since().at(-1)).toBe('look nodes');
});

it('pieces of long messages wait like others, and are passed on as they are', () => {
  send(simpleQuery('SHOW NODES'));
  const long = simpleQuery('x'.repeat(600_000));
  send(long.subarray(0, 300_000));
  send(long.subarray(300_000));
  expect(since()).toEqual(['look nodes']);
  finish();
  expect(since()).toEqual(['query SELECT * FROM tide.nodes ORDER BY id', expect.stringContaining('query'), 'more']);
});
