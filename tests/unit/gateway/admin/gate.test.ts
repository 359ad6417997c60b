import { beforeEach, describe, expect, it } from 'vitest';
import { AdminGate } from '../../../../src/gateway/admin/gate.ts';
import { CLIENT, ClientFrames } from '../../../../src/gateway/wire/client-frames.ts';
import { parseMessage, readParse } from '../../../../src/gateway/wire/extended.ts';
import { EXECUTE_ALL, framed, queryText, SYNC, simpleQuery } from '../../../../src/gateway/wire/messages.ts';

/** What the session behind was sent, and the node was asked for, in order. */
let happened: string[];
let unanswered: 'nothing' | 'here' | 'before';
let isInTransaction: boolean;
let done: ((text: string) => void)[];
let gate: AdminGate;
let frames: ClientFrames;

const NAMES = new Map<number, string>(Object.entries(CLIENT).map(([name, type]) => [type, name]));

function describeMessage(type: number | null, bytes: Buffer): string {
  const name = NAMES.get(type as number) ?? 'more';
  const text = name === 'query' ? queryText(bytes) : name === 'parse' ? (readParse(bytes)?.text ?? 'long') : null;
  return text === null ? name : `${name} ${text}`;
}

beforeEach(() => {
  happened = [];
  done = [];
  unanswered = 'nothing';
  isInTransaction = false;
  const tell = (type: number | null, bytes: Buffer) => happened.push(describeMessage(type, bytes));
  gate = new AdminGate(
    { message: tell, piece: tell, broken: () => happened.push('broken') },
    {
      look: (relations, then) => {
        happened.push(`look ${relations.join()}`);
        done.push(then);
      },
      perform: (work, gives, then) => {
        happened.push(work === null ? 'refuse' : `perform for ${gives}`);
        done.push(then);
      },
      explain: (statement) => [`it's ${statement}`],
      insert: (answeredBy, messages) => {
        const own: string[] = [];
        const note = (type: number | null, bytes: Buffer) => own.push(describeMessage(type, bytes));
        new ClientFrames({ message: note, piece: note, broken: () => own.push('broken') }).take(messages);
        happened.push(`own ${own.join(', ')} (${answeredBy})`);
        if (unanswered === 'nothing') unanswered = 'here';
      },
      progress: () => ({ unanswered, isInTransaction }),
    },
  );
  frames = new ClientFrames(gate);
});

const send = (...messages: Buffer[]) => frames.take(Buffer.concat(messages));
const bind = (statement = '', rest = '\0\0\0\0\0\0', portal = '') =>
  framed(0x42, Buffer.from(`${portal}\0${statement}\0${rest}`));
const execute = (portal: string) => framed(0x45, Buffer.from(`${portal}\0\0\0\0\0`));
const close = (statement: string) => framed(0x43, Buffer.from(`S${statement}\0`));
const SET = 'SET CLUSTER SETTING rebalance.auto = off';
const PLACE = 'CALL tide.not_carried_out()';
const DONE = 'CALL tide.done()';
const NODES = 'SELECT * FROM tide.nodes';
const BARRIER = 'own close, flush (close)';
const INSTEAD = ['own parse CALL tide.done(), bind, execute (parse)', 'own close (close)'];

/** What has happened since it was asked last. */
function since(): string[] {
  return happened.splice(0);
}

function finish(text = DONE): void {
  const then = done.shift();
  expect(then).toBeDefined();
  then?.(text);
}

function answer(what: typeof unanswered = 'nothing'): void {
  unanswered = what;
  gate.answered();
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

  it('reads what is so when all that was sent before it is answered', () => {
    unanswered = 'before';
    send(simpleQuery('SHOW NODES'));
    expect(since()).toEqual([]);
    answer();
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

  it('is carried out when all that was sent before is answered, of an open batch too', () => {
    unanswered = 'before';
    send(simpleQuery(SET));
    expect(since()).toEqual([]);
    answer('before');
    expect(since()).toEqual([]);
    answer();
    expect(since()).toEqual(['perform for nothing']);
    finish();
    since();
    send(parseMessage('', 'SELECT 1', []), simpleQuery(SET));
    expect(since()).toEqual(['parse SELECT 1', BARRIER]);
    answer();
    expect(since()).toEqual(['perform for nothing']);
  });

  it('does nothing in a transaction, also one of which it hears only when its turn comes', () => {
    isInTransaction = true;
    send(simpleQuery(SET));
    expect(since()).toEqual(['refuse']);
    finish('CALL tide.refuse()');
    expect(since()).toEqual(['query CALL tide.refuse()']);
    isInTransaction = false;
    unanswered = 'before';
    send(simpleQuery(SET));
    isInTransaction = true;
    answer();
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
    answer('before');
    expect(since()).toEqual([]);
    answer();
    expect(since()).toEqual(['perform for nothing']);
  });
});

describe('a prepared statement', () => {
  it('reads what is so when it is bound, each time, and when it is prepared', () => {
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

  it('changes the cluster when all before its execution has succeeded, and gives what came of it', () => {
    send(parseMessage('', SET, []), bind(), EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${PLACE}`, 'bind', BARRIER]);
    answer('here');
    expect(since()).toEqual([]);
    answer();
    expect(since()).toEqual(['perform for nothing']);
    finish();
    expect(since()).toEqual([...INSTEAD, 'sync']);
  });

  it('is skipped as the server skips it where something before it has failed, and works again after Sync', () => {
    send(parseMessage('s', SET, []), bind('s'), EXECUTE_ALL, SYNC);
    since();
    gate.failed();
    answer('here');
    expect(since()).toEqual(['execute', 'sync']);
    answer();
    send(bind('s'), EXECUTE_ALL, SYNC);
    answer();
    expect(since()).toEqual(['bind', BARRIER, 'perform for nothing']);
  });

  it('is skipped where that is known before it is sent', () => {
    send(parseMessage('s', SET, []), SYNC);
    since();
    gate.failed();
    send(bind('s'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual(['bind', BARRIER, 'execute', 'sync']);
  });

  it('waits for what was executed before it up to Sync, with which it is one transaction, and does nothing', () => {
    send(parseMessage('s', SET, []), SYNC, parseMessage('', 'DELETE FROM t', []), bind(), EXECUTE_ALL);
    send(bind('s'), EXECUTE_ALL, SYNC);
    expect(since().slice(-2)).toEqual(['bind', BARRIER]);
    answer();
    expect(since()).toEqual(['refuse']);
    finish();
    expect(since()).toEqual([...INSTEAD, 'sync']);
    answer();
    send(bind('s'), EXECUTE_ALL, SYNC);
    answer();
    expect(since()).toEqual(['bind', BARRIER, 'perform for nothing']);
  });

  it('with parameters, which it has not, fails and does nothing; a format for none is right', () => {
    send(parseMessage('', SET, []), bind('', '\0\0\0\x01\0\0\0\x011\0\0'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${PLACE}`, 'bind', 'execute', 'sync']);
    send(parseMessage('', SET, []), bind('', '\0\x01\0\x01\0\0\0\x01\0\x01'), EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${PLACE}`, 'bind', BARRIER]);
  });

  it.each(['\0\x01\0\x02\0\0\0\0', '\0\0\0\0\0\x02\0\0\0\0', '\0\0\0\0\0\x01\0\x02', '\0\0\0\0', '\0\x01'])(
    'with formats that there are not, or that are missing, does nothing (%j)',
    (rest) => {
      send(parseMessage('', SET, []), bind('', rest), EXECUTE_ALL, SYNC);
      expect(since()).toEqual([`parse ${PLACE}`, 'bind', 'execute', 'sync']);
    },
  );

  it('that was bound and not executed up to Sync does nothing, in whatever portal', () => {
    send(parseMessage('', SET, []), bind(), SYNC, EXECUTE_ALL, SYNC);
    expect(since()).toEqual([`parse ${PLACE}`, 'bind', 'sync', 'execute', 'sync']);
    send(parseMessage('s', SET, []), bind('s', '\0\0\0\0\0\0', 'p'), SYNC, execute('p'), SYNC);
    expect(since()).toEqual([`parse ${PLACE}`, 'bind', 'sync', 'execute', 'sync']);
  });

  it('is executed once, however often its portal is', () => {
    send(parseMessage('', SET, []), bind(), EXECUTE_ALL);
    answer();
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
    `query SELECT unnest(ARRAY['it''s SELECT 1']::text[]) AS "QUERY PLAN"`,
    `parse SELECT unnest(ARRAY['it''s TABLE t;']::text[]) AS "QUERY PLAN"`,
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
