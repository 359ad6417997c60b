import { beforeEach, describe, expect, it } from 'vitest';
import { AdminGate } from '../../../../src/gateway/admin/gate.ts';
import { CLIENT, ClientFrames } from '../../../../src/gateway/wire/client-frames.ts';
import { parseMessage, readParse } from '../../../../src/gateway/wire/extended.ts';
import { EXECUTE_ALL, framed, queryText, SYNC, simpleQuery } from '../../../../src/gateway/wire/messages.ts';

/** What the session behind was sent, and the node was asked for, in order. */
let happened: string[];
let unanswered: 'nothing' | 'here' | 'before';
let isInTransaction: boolean;
let done: (() => void)[];
let gate: AdminGate;
let frames: ClientFrames;

const NAMES = new Map<number, string>(Object.entries(CLIENT).map(([name, type]) => [type, name]));

beforeEach(() => {
  happened = [];
  done = [];
  unanswered = 'nothing';
  isInTransaction = false;
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
      perform: (work, then) => {
        happened.push(work === null ? 'refuse' : 'perform');
        done.push(then);
      },
      explain: (statement) => [`it's ${statement}`],
      unanswered: () => unanswered,
      isInTransaction: () => isInTransaction,
    },
  );
  frames = new ClientFrames(gate);
});

const send = (...messages: Buffer[]) => frames.take(Buffer.concat(messages));
const bind = (statement = '', rest = '\0\0\0\0\0\0') => framed(0x42, Buffer.from(`\0${statement}\0${rest}`));
const close = (statement: string) => framed(0x43, Buffer.from(`S${statement}\0`));
const SET = 'SET CLUSTER SETTING rebalance.auto = off';
const TOLD = 'CALL tide.told()';
const NODES = 'SELECT * FROM tide.nodes';

/** What has happened since it was asked last. */
function since(): string[] {
  return happened.splice(0);
}

function finish(): void {
  const then = done.shift();
  expect(then).toBeDefined();
  then?.();
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
  });

  it('that changes the cluster is carried out first', () => {
    send(simpleQuery(SET), simpleQuery(SET));
    expect(since()).toEqual(['perform']);
    finish();
    expect(since()).toEqual([`query ${TOLD}`, 'perform']);
    finish();
    expect(since()).toEqual([`query ${TOLD}`]);
  });

  it('is carried out when all that was sent before is answered', () => {
    unanswered = 'before';
    send(simpleQuery(SET));
    expect(since()).toEqual([]);
    gate.answered();
    expect(since()).toEqual([]);
    unanswered = 'nothing';
    gate.answered();
    expect(since()).toEqual(['perform']);
  });

  it('does nothing in a transaction, and is told so', () => {
    isInTransaction = true;
    send(simpleQuery(SET));
    expect(since()).toEqual(['refuse']);
    finish();
    expect(since()).toEqual([`query ${TOLD}`]);
  });

  it('finds out only when its turn comes that a transaction was begun', () => {
    unanswered = 'before';
    send(simpleQuery(SET));
    isInTransaction = true;
    unanswered = 'nothing';
    gate.answered();
    expect(since()).toEqual(['refuse']);
  });

  it('that is wrong asks nobody', () => {
    send(simpleQuery('ALTER CLUSTER'));
    expect(since()).toEqual([expect.stringMatching(/^query CALL tide\.refuse/)]);
  });

  it('comes after what failed before it, when that was a transaction of its own', () => {
    unanswered = 'before';
    send(simpleQuery(SET));
    gate.failed();
    gate.answered();
    expect(since()).toEqual([]);
    unanswered = 'nothing';
    gate.answered();
    expect(since()).toEqual(['perform']);
  });
});

describe('a prepared statement', () => {
  it('reads what is so when it is bound, each time', () => {
    send(parseMessage('n', NODES, []), SYNC);
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

  it('changes the cluster when it is executed, and that it was prepared and bound is known', () => {
    unanswered = 'here';
    send(parseMessage('', SET, []), bind(), EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${TOLD}`, 'bind', 'flush']);
    unanswered = 'nothing';
    gate.answered();
    expect(since()).toEqual(['perform']);
    finish();
    expect(since()).toEqual(['execute', 'sync']);
  });

  it('is skipped as the server skips it, where it could not be prepared', () => {
    unanswered = 'here';
    send(parseMessage('', SET, []), bind(), EXECUTE_ALL, SYNC);
    since();
    gate.failed();
    gate.answered();
    expect(since()).toEqual(['execute', 'sync']);
    unanswered = 'nothing';
    send(bind(), EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['bind', 'execute', 'sync']);
  });

  it('is skipped where what was sent before it has failed by then', () => {
    send(parseMessage('s', SET, []), SYNC);
    gate.answered();
    since();
    unanswered = 'here';
    send(parseMessage('', 'SELECT nonsense', []));
    gate.failed();
    send(bind('s'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['parse SELECT nonsense', 'bind', 'flush', 'execute', 'sync']);
    unanswered = 'nothing';
    send(bind('s'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['bind', 'perform']);
  });

  it('is no part of a transaction with what was executed before it, up to Sync', () => {
    send(parseMessage('s', SET, []), SYNC, parseMessage('', 'DELETE FROM t', []), bind(), EXECUTE_ALL);
    send(bind('s'), EXECUTE_ALL, SYNC);
    expect(since().at(-1)).toBe('refuse');
    finish();
    expect(since()).toEqual(['execute', 'sync']);
    gate.answered();
    send(bind('s'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['bind', 'perform']);
  });

  it('of an earlier batch that turned out to have failed is unknown', () => {
    unanswered = 'before';
    send(parseMessage('s', SET, []), SYNC, bind('s'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${TOLD}`, 'sync', 'bind']);
    gate.failed();
    unanswered = 'nothing';
    gate.answered();
    expect(since()).toEqual(['execute', 'sync']);
  });

  it('with parameters, which it has not, fails and does nothing', () => {
    send(parseMessage('', SET, []), bind('', '\0\0\0\x01\0\0\0\x011\0\0'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${TOLD}`, 'bind', 'execute', 'sync']);
  });

  it('that was bound and not executed does nothing', () => {
    send(parseMessage('', SET, []), bind(), SYNC, EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${TOLD}`, 'bind', 'sync', 'execute', 'sync']);
  });

  it('is executed once, however often its portal is', () => {
    send(parseMessage('', SET, []), bind(), EXECUTE_ALL);
    finish();
    since();
    send(EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['execute', 'sync']);
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
    `query SELECT unnest(ARRAY['it''s SELECT 1']) AS "QUERY PLAN"`,
    `parse SELECT unnest(ARRAY['it''s TABLE t;']) AS "QUERY PLAN"`,
    'bind',
    'execute',
    'sync',
  ]);
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
