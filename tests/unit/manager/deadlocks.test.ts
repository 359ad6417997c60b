import { beforeEach, describe, expect, test } from 'vitest';
import type { OpenSessionReport } from '../../../src/api/membership.ts';
import type { TableRecord } from '../../../src/catalog/model.ts';
import { DeadlockWatch } from '../../../src/manager/deadlocks.ts';
import { World } from '../../fakes/world.ts';

let world: World;
let watch: DeadlockWatch;
let events: string[];
let answered: Map<number, number>;

beforeEach(async () => {
  world = await World.settled([1, 2, 3]);
  events = [];
  answered = new Map();
  watch = new DeadlockWatch({
    clock: world.clock,
    view: () => ({ ...world.view, tables: new Map([[1, { name: 'acct' } as TableRecord]]) }),
    event: async ({ kind, node, text }) => void events.push(`${kind} ${node}: ${text}`),
    log: () => {},
  });
});

function session(pid: number, more: Partial<OpenSessionReport> = {}): OpenSessionReport {
  return { pid, xact: 'x', ageMs: 1_000 - pid, active: true, via: null, waits: null, ...more };
}

function waits(pid: number, relation: string | null = null): OpenSessionReport['waits'] {
  return { since: 'once', pids: [pid], lock: 'ShareLock on transaction 7', relation };
}

const pass = (ms: number) => world.clock.during(world.clock.sleep(ms));

/** A node beats, some time later, as the one that knows the manager's last answer to it. */
async function beat(node: number, sessions: OpenSessionReport[] | null) {
  await pass(100);
  const answer = await watch.hear({ node, sessions, answeredMs: answered.get(node) ?? null });
  answered.set(node, answer.heardAtMs ?? 0);
  return answer;
}

const ONE = [session(10), session(21, { via: { node: 2, pid: 20 }, waits: waits(10, 'tide_data.t1_p0') })];
const TWO = [session(20), session(11, { via: { node: 1, pid: 10 }, waits: waits(20) })];

/** Both nodes have reported, and again after each had been heard. */
async function found() {
  await beat(1, ONE);
  await beat(2, TWO);
  await beat(1, ONE);
  await beat(2, TWO);
  await beat(1, ONE);
  return beat(2, TWO);
}

describe('a circle of waits over two nodes', () => {
  test('is asked for again, and ended at the node of the youngest when a moment is known that all waits were there', async () => {
    expect(await beat(1, ONE)).toMatchObject({ deadlocks: [], soon: false });
    expect(await beat(2, TWO)).toMatchObject({ deadlocks: [], soon: true });
    expect(await beat(1, ONE)).toMatchObject({ deadlocks: [], soon: true });
    expect(await beat(2, TWO)).toMatchObject({ deadlocks: [], soon: true });
    // Made after this manager had heard both: the waits of node 2 were there then, too.
    expect(await beat(1, ONE)).toMatchObject({ deadlocks: [] });
    const { deadlocks } = await beat(2, TWO);
    expect(deadlocks).toEqual([
      {
        pid: 20,
        xact: 'x',
        detail: expect.stringMatching(
          /^Process 10 of node 1 waits on node 2 \(process 11 there\) for ShareLock on transaction 7; blocked by process 20 of node 2\.\nProcess 20 of node 2 waits on node 1 \(process 21 there\) for ShareLock on transaction 7, acct partition 0; blocked by process 10 of node 1\.$/,
        ),
      },
    ]);
    expect(events).toEqual([expect.stringMatching(/^deadlock 2: process 20 of node 2 was ended, the youngest of 2/)]);
  });

  test('is told once, and as often as the node needs', async () => {
    expect((await found()).deadlocks).toHaveLength(1);
    expect((await beat(2, TWO)).deadlocks).toHaveLength(1);
    expect((await beat(1, ONE)).deadlocks).toEqual([]);
    expect(await beat(2, [])).toMatchObject({ deadlocks: [], soon: false });
    expect(events).toHaveLength(1);
  });

  test('that is seen at no moment as a whole is none', async () => {
    await beat(1, ONE);
    await beat(2, [session(20)]);
    for (let round = 0; round < 5; round++) {
      expect((await beat(1, [session(10), session(21, { via: { node: 2, pid: 20 } })])).deadlocks).toEqual([]);
      expect((await beat(2, TWO)).deadlocks).toEqual([]);
      expect((await beat(1, ONE)).deadlocks).toEqual([]);
      expect((await beat(2, [session(20)])).deadlocks).toEqual([]);
    }
    expect(events).toEqual([]);
  });

  test('a wait that began anew is another', async () => {
    for (let round = 0; round < 5; round++) {
      const anew = ONE.map((s) => (s.waits ? { ...s, waits: { ...s.waits, since: `round ${round}` } } : s));
      expect((await beat(1, anew)).deadlocks).toEqual([]);
      expect((await beat(2, TWO)).deadlocks).toEqual([]);
    }
  });

  test('answers of another manager, whose clock is ahead, count for nothing', async () => {
    answered.set(1, world.clock.nowMs() + 1e6).set(2, world.clock.nowMs() + 1e6);
    await beat(1, ONE);
    expect((await beat(2, TWO)).deadlocks).toEqual([]);
  });

  test('what is not heard any more is forgotten', async () => {
    await beat(1, ONE);
    await pass(5_000);
    for (let round = 0; round < 5; round++) expect((await beat(2, TWO)).deadlocks).toEqual([]);
    expect(await beat(1, null)).toMatchObject({ deadlocks: [], soon: false });
  });
});

test('of a flood some are only counted', async () => {
  for (let n = 0; n < 130; n++) {
    const fresh = (all: OpenSessionReport[]) => all.map((s) => ({ ...s, xact: `x${n}` }));
    for (let round = 0; round < 3; round++) {
      await watch.hear({ node: 1, sessions: fresh(ONE), answeredMs: Number.MAX_VALUE });
      await watch.hear({ node: 2, sessions: fresh(TWO), answeredMs: Number.MAX_VALUE });
    }
    await watch.hear({ node: 1, sessions: [], answeredMs: null });
    await watch.hear({ node: 2, sessions: [], answeredMs: null });
  }
  expect(events.length).toBe(100);
  await pass(1_500);
  await found();
  expect(events.length).toBe(101);
  expect(events.at(-1)).toMatch(/\(30 more before it are not listed\)$/);
});
