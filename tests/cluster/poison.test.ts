import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import { partitionTable } from '../../src/catalog/names.ts';
import { must } from '../../src/core/assert.ts';
import { TIDE_DATABASE, TIDE_MANAGER } from '../../src/postgres/config.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { played } from '../support/matrix.ts';
import { inSession } from '../support/session.ts';
import { eventually, expectReplicasEqual, expectSettled, keyIn, startNodes } from './support/proof.ts';

/**
 * A row, or a table, that a follower cannot apply: PostgreSQL tries for ever. The partition leaves the
 * stream, what else the two nodes share goes on, everybody is told why, and the replica is copied again.
 */

/** One for every case: a replica that is given up again is not copied again at once. */
const PARTITIONS = 12;
/** Most that a commit may wait, whatever it is of. */
const BOUND_MS = 15_000;
const POISON = 'poison';
let cluster: LocalCluster;
let nodes: number[];
let tid: number;
const table = 'acct';
let next = 1_000;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  const sql = `CREATE TABLE ${table} (id bigint PRIMARY KEY, v text, n int)`;
  ({ tid } = await createTable(cluster, sql, { partitions: PARTITIONS, replicas: 2 }));
});
afterAll(() => cluster?.close());

/**
 * Statements of somebody who changes one server behind pgtide's back; rows that he writes go nowhere else.
 */
async function sabotage(node: number, ...statements: string[]): Promise<void> {
  await asManager(
    node,
    `SELECT pg_replication_origin_create('sabotage') WHERE NOT EXISTS
       (SELECT FROM pg_replication_origin WHERE roname = 'sabotage')`,
    `SELECT pg_replication_origin_session_setup('sabotage')`,
    'SET session_replication_role = replica',
    ...statements,
  );
}

async function asManager(node: number, ...statements: string[]): Promise<void> {
  const { host, port } = cluster.postgres(node).options;
  await inSession({ host, port, user: TIDE_MANAGER, database: TIDE_DATABASE }, async (client) => {
    for (const statement of statements) await client.query(statement);
  });
}

interface Pair {
  pid: number;
  leader: number;
  follower: number;
  /** Led and followed by the same two. */
  others: number[];
}

async function pairOf(pid: number): Promise<Pair> {
  const rows = await cluster.admin({ do: 'partition-ls', table });
  const holder = (p: number, role: PartitionRow['role']) =>
    must(
      rows.find((r) => r.pid === p && r.role === role),
      role,
    ).node;
  const [leader, follower] = [holder(pid, 'leader'), holder(pid, 'follower')];
  const others = Array.from({ length: PARTITIONS }, (_, p) => p).filter(
    (p) => p !== pid && holder(p, 'leader') === leader && holder(p, 'follower') === follower,
  );
  return { pid, leader, follower, others };
}

async function keysOf(pid: number, count: number): Promise<number[]> {
  const keys: number[] = [];
  while (keys.length < count) {
    keys.push(await keyIn(cluster, { tid, table }, PARTITIONS, pid, next));
    next = must(keys.at(-1), 'key') + 1;
  }
  return keys;
}

/** Writes to partitions, one row after the other; how long each took. */
class Writer {
  readonly tookMs: { atMs: number; ms: number }[] = [];
  readonly acknowledged: number[] = [];
  readonly #stopping = new AbortController();
  readonly #writing: Promise<void>;

  constructor(node: number, keys: readonly number[]) {
    this.#writing = this.#write(node, keys);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#writing;
  }

  async #write(node: number, keys: readonly number[]): Promise<void> {
    for (const key of keys) {
      if (this.#stopping.signal.aborted) return;
      const atMs = performance.now();
      await cluster.postgres(node).query(`INSERT INTO ${table} VALUES ($1, 'good', 1)`, [key]);
      this.acknowledged.push(key);
      this.tookMs.push({ atMs, ms: performance.now() - atMs });
      await sleep(20);
    }
    throw new Error('the writer has run out of keys');
  }
}

/** What is shown while a replica is given up and copied again. */
class Watch {
  readonly seen = { status: '', ls: '', doctor: '', states: new Set<string>() };
  readonly #stopping = new AbortController();
  readonly #watching: Promise<void>;

  constructor(pair: Pair) {
    this.#watching = this.#watch(pair);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
  }

  async #watch({ pid, follower }: Pair): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const [status, ls, doctor] = await Promise.all([
        cluster.admin({ do: 'node-status' }),
        cluster.admin({ do: 'partition-ls', table }),
        cluster.admin({ do: 'doctor' }),
      ]);
      const row = ls.find((r) => r.pid === pid && r.node === follower);
      this.seen.status ||= status.find((n) => n.id === follower)?.replication ?? '';
      this.seen.ls ||= row?.why ?? '';
      this.seen.doctor ||= doctor.findings.find((f) => f.kind === 'replication' && f.node === follower)?.why ?? '';
      if (row) this.seen.states.add(row.state);
      await sleep(50);
    }
  }
}

let lastEvent = 0;
beforeEach(async () => {
  lastEvent = (await cluster.admin({ do: 'events' })).at(-1)?.seq ?? 0;
});

async function bounded<T>(work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} has not come back in ${BOUND_MS} ms`)), BOUND_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

type Kind = [what: string, message: RegExp, faults: (name: string, key: number) => string[]];

const KINDS: Kind[] = [
  ['a missing column', /missing replicated column: "n"/, (name) => [`ALTER TABLE ${name} DROP COLUMN n`]],
  [
    'a row that is there already',
    /conflict detected on relation|duplicate key value/,
    (name, key) => [`INSERT INTO ${name} VALUES (${key}, 'here before', 7)`],
  ],
  ['a dropped table', /target relation "tide_data\.\w+" does not exist/, (name) => [`DROP TABLE ${name}`]],
  [
    'a renamed table',
    /target relation "tide_data\.\w+" does not exist/,
    (name) => [`ALTER TABLE ${name} RENAME TO elsewhere`],
  ],
  [
    'a CHECK that fails there',
    /check constraint "odd"/,
    (name) => [`ALTER TABLE ${name} ADD CONSTRAINT odd CHECK (v <> '${POISON}')`],
  ],
  [
    'a trigger that raises',
    /not on my watch/,
    (name) => [
      `CREATE OR REPLACE FUNCTION public.raises() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN IF NEW.v = '${POISON}' THEN RAISE 'not on my watch'; END IF; RETURN NEW; END $$`,
      `CREATE TRIGGER raises BEFORE INSERT ON ${name} FOR EACH ROW EXECUTE FUNCTION public.raises()`,
      `ALTER TABLE ${name} ENABLE ALWAYS TRIGGER raises`,
    ],
  ],
  [
    'a function that is missing',
    /function public\.nowhere\(text\) does not exist/,
    (name) => [
      `CREATE OR REPLACE FUNCTION public.asks(v text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
         $$ BEGIN RETURN v <> '${POISON}' OR public.nowhere(v); END $$`,
      `ALTER TABLE ${name} ADD CONSTRAINT asks CHECK (public.asks(v)) NOT VALID`,
    ],
  ],
];

const IN_SHORT = ['a missing column', 'a row that is there already'];

describe('what a follower cannot apply', () => {
  it.each(played(KINDS, ([what]) => IN_SHORT.includes(what)))(
    '%s holds up nobody, is told of, and is made good',
    async (what, message, faults) => {
      const pid = KINDS.findIndex(([each]) => each === what);
      const pair = await pairOf(pid);
      const { leader, follower, others } = pair;
      expect(others.length, JSON.stringify(pair)).toBeGreaterThan(0);
      const name = `tide_data.${partitionTable(tid, pid)}`;
      const [key = 0, later = 0] = await keysOf(pid, 2);
      const good = await keysOf(must(others[0], 'other partition'), 1_500);
      await sabotage(follower, ...faults(name, key));
      const watch = new Watch(pair);
      const writer = new Writer(leader, good);
      try {
        const poisoned = cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, $2, 1)`, [key, POISON]);
        await bounded(poisoned, `the commit of the row that node ${follower} cannot apply`);
        await bounded(
          cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, 'later', 2)`, [later]),
          'the next',
        );
        await eventually(async () => {
          const rows = await cluster.admin({ do: 'partition-ls', table });
          expect(rows.filter((r) => r.state !== 'ready' || r.why !== null)).toEqual([]);
          expect(watch.seen.states).toContain('stale');
        }, 60_000);
      } finally {
        await watch.stop();
        await writer.stop();
      }
      const events = await cluster.admin({ do: 'events', after: lastEvent });
      const told = events.filter((e) => e.kind === 'apply-failed');
      expect(told.map((e) => e.text).join('\n')).toMatch(message);
      expect(told.every((e) => e.node === follower)).toBe(true);
      for (const shown of [watch.seen.status, watch.seen.ls, watch.seen.doctor]) expect(shown).toMatch(message);
      expect(Math.max(...writer.tookMs.map((w) => w.ms))).toBeLessThan(BOUND_MS);
      // It ran beside the fault, and went on after it.
      expect(writer.acknowledged.length).toBeGreaterThan(20);
      await sabotage(follower, 'DROP TABLE IF EXISTS tide_data.elsewhere');
      const { rows } = await cluster
        .sql(follower)
        .query(`SELECT count(*)::int AS n FROM ${table} WHERE id = ANY ($1)`, [[key, later, ...writer.acknowledged]]);
      expect(rows[0].n).toBe(2 + writer.acknowledged.length);
      expect(await expectReplicasEqual(cluster)).toBe(PARTITIONS);
      await expectSettled(cluster, nodes);
    },
  );
});

describe('beside other work', () => {
  it('a large transaction, applied by parallel workers while it runs, is poison like any other', async () => {
    const { pid, leader, follower } = await pairOf(KINDS.length);
    const count = 4_000;
    const mine = `satisfies_hash_partition('${table}'::regclass, ${PARTITIONS}, ${pid}, n)`;
    const [key = 0] = await keysOf(pid, 1);
    next = key + 300_000;
    const admin = cluster.postgres(leader);
    await sabotage(leader, `ALTER SYSTEM SET logical_decoding_work_mem = '64kB'`, 'SELECT pg_reload_conf()');
    const streamed = async () => {
      const { rows } = await admin.query(
        `SELECT coalesce(max(stream_txns), 0)::int AS n FROM pg_stat_replication_slots WHERE slot_name = 'tide_${leader}_${follower}'`,
      );
      return Number(rows[0].n);
    };
    let mostStreamed = 0;
    try {
      await sabotage(follower, `INSERT INTO tide_data.${partitionTable(tid, pid)} VALUES (${key}, 'here before', 7)`);
      const text = `INSERT INTO ${table} SELECT n, repeat('x', 100), 1 FROM generate_series($1::bigint, $1::bigint + 200000) n WHERE ${mine} ORDER BY n LIMIT ${count}`;
      const { rowCount } = await bounded(admin.query(text, [key]), 'the large commit');
      expect(rowCount).toBe(count);
      await eventually(async () => {
        // Looked at all the time: where the whole stream is made anew, its slot counts from nothing.
        mostStreamed = Math.max(mostStreamed, await streamed());
        const told = (await cluster.admin({ do: 'events', after: lastEvent })).filter((e) => e.kind === 'apply-failed');
        expect(told.map((e) => e.text).join()).toMatch(/conflict detected on relation/);
        const now = await cluster.admin({ do: 'partition-ls', table });
        expect(now.filter((r) => r.state !== 'ready' || r.why !== null)).toEqual([]);
      }, 60_000);
    } finally {
      await sabotage(leader, 'ALTER SYSTEM RESET logical_decoding_work_mem', 'SELECT pg_reload_conf()');
    }
    expect(mostStreamed).toBeGreaterThan(0);
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  });

  it('a copy between the same two nodes comes to its end', async () => {
    const { pid, leader, follower } = await pairOf(KINDS.length + 1);
    const options = { partitions: 3, replicas: 1 };
    await createTable(cluster, 'CREATE TABLE wide (id bigint PRIMARY KEY, v text)', options);
    const held = await cluster.admin({ do: 'partition-ls', table: 'wide' });
    const copied = must(
      held.find((r) => r.node === leader),
      `a partition on node ${leader}`,
    );
    await cluster.sql(leader).query(`INSERT INTO wide SELECT n, repeat('x', 500) FROM generate_series(1, 60000) n`);
    const [key = 0] = await keysOf(pid, 1);
    await sabotage(follower, `INSERT INTO tide_data.${partitionTable(tid, pid)} VALUES (${key}, 'here before', 7)`);
    const poisoned = cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, $2, 1)`, [key, POISON]);
    const pids = [copied.pid];
    const { operations } = await cluster.admin({ do: 'partition-add-replica', table: 'wide', pids, node: follower });
    await bounded(poisoned, 'the commit');
    expect((await cluster.waitForOperation(must(operations[0], 'operation'))).status).toBe('done');
    await eventually(async () => {
      const now = await cluster.admin({ do: 'partition-ls' });
      expect(now.filter((r) => r.state !== 'ready' || r.why !== null)).toEqual([]);
    }, 60_000);
    const events = await cluster.admin({ do: 'events', after: lastEvent });
    const at = (kind: string) => events.findIndex((e) => e.kind === kind);
    // It was under way when the stream was mended.
    expect(at('apply-failed')).toBeGreaterThanOrEqual(0);
    expect(events.findIndex((e) => e.operation === operations[0] && e.kind === 'replica-added')).toBeGreaterThan(
      at('apply-failed'),
    );
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  });

  it('what is no partition’s costs the stream, which is made anew', async () => {
    const { pid, leader, follower } = await pairOf(KINDS.length + 1);
    const [key = 0, later = 0] = await keysOf(pid, 2);
    await sabotage(
      follower,
      `CREATE OR REPLACE FUNCTION public.raises() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN IF NEW.src = ${leader} THEN RAISE 'no marker here'; END IF; RETURN NEW; END $$`,
      'CREATE TRIGGER raises BEFORE UPDATE ON tide.marker FOR EACH ROW EXECUTE FUNCTION public.raises()',
      'ALTER TABLE tide.marker ENABLE ALWAYS TRIGGER raises',
    );
    // Somebody asks what has arrived.
    await asManager(leader, `UPDATE tide.marker SET value = value + 1 WHERE src = ${leader}`);
    const told = async () => {
      const events = await cluster.admin({ do: 'events', after: lastEvent });
      return events.filter((e) => e.kind === 'apply-failed').map((e) => e.text);
    };
    try {
      await bounded(cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, 'x', 1)`, [key]), 'the commit');
      await eventually(async () => expect(await told()).toHaveLength(1));
    } finally {
      await sabotage(follower, 'DROP TRIGGER raises ON tide.marker');
    }
    expect((await told())[0]).toMatch(/no marker here; the stream was made anew/);
    await bounded(cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, 'x', 1)`, [later]), 'the next');
    await eventually(async () => {
      const rows = await cluster.admin({ do: 'partition-ls' });
      expect(rows.filter((r) => r.state !== 'ready' || r.why !== null)).toEqual([]);
    }, 90_000);
    await expectReplicasEqual(cluster);
    await eventually(() => expectSettled(cluster, nodes));
  });

  it('where a third replica follows, commits are protected all the time', async () => {
    const three = await createTable(cluster, 'CREATE TABLE three (id bigint PRIMARY KEY, v text)', {
      partitions: 1,
      replicas: 3,
    });
    const held = await cluster.admin({ do: 'partition-ls', table: 'three' });
    const leader = must(held.find((r) => r.role === 'leader'), 'leader').node; // biome-ignore format: short
    const follower = must(held.find((r) => r.role === 'follower'), 'follower').node; // biome-ignore format: short
    const name = `tide_data.${partitionTable(three.tid, 0)}`;
    await sabotage(follower, `ALTER TABLE ${name} ADD CONSTRAINT odd CHECK (v <> '${POISON}')`);
    const durabilities = new Set<string | null>();
    const states = new Set<string>();
    let watching = true;
    const watch = (async () => {
      while (watching) {
        const rows = await cluster.admin({ do: 'partition-ls', table: 'three' });
        for (const r of rows) if (r.role === 'leader') durabilities.add(r.durability);
        for (const r of rows) if (r.node === follower) states.add(r.state);
        await sleep(50);
      }
    })();
    try {
      await bounded(cluster.postgres(leader).query(`INSERT INTO three VALUES (1, $1)`, [POISON]), 'the commit');
      await eventually(async () => {
        expect(states).toContain('stale');
        const rows = await cluster.admin({ do: 'partition-ls', table: 'three' });
        expect(rows.filter((r) => r.state !== 'ready')).toEqual([]);
      }, 60_000);
    } finally {
      watching = false;
      await watch;
    }
    expect([...durabilities]).toEqual(['quorum']);
    await expectReplicasEqual(cluster);
  });
});

describe('what would fail again', () => {
  /** Whatever table of a partition is made on a node takes no such row. */
  const EVER_AGAIN = [
    `CREATE OR REPLACE FUNCTION public.ever_again() RETURNS event_trigger LANGUAGE plpgsql AS $$
       DECLARE made record;
       BEGIN
         FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' AND schema_name = 'tide_data' LOOP
           EXECUTE format('ALTER TABLE %s ADD CONSTRAINT ever CHECK (v <> %L)', made.object_identity, '${POISON}');
         END LOOP;
       END $$`,
    'CREATE EVENT TRIGGER ever_again ON ddl_command_end EXECUTE FUNCTION public.ever_again()',
  ];
  const NEVER_AGAIN = ['DROP EVENT TRIGGER IF EXISTS ever_again'];

  it('a replica that is given up again waits, says so, and can be had on another node', async () => {
    const pair = await pairOf(KINDS.length + 3);
    const { pid, leader, follower } = pair;
    const third = must(
      nodes.find((n) => n !== leader && n !== follower),
      'node without a replica',
    );
    const name = `tide_data.${partitionTable(tid, pid)}`;
    const [key = 0] = await keysOf(pid, 1);
    const row = async () => {
      const rows = await cluster.admin({ do: 'partition-ls', table });
      return rows.find((r) => r.pid === pid && r.node === follower);
    };
    await sabotage(follower, ...EVER_AGAIN, `ALTER TABLE ${name} ADD CONSTRAINT ever CHECK (v <> '${POISON}')`);
    try {
      for (const round of [1, 2]) {
        const beforeSeq = (await cluster.admin({ do: 'events' })).at(-1)?.seq ?? 0;
        const insert = cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, $2, 1)`, [key, POISON]);
        await bounded(insert, `the commit of round ${round}`);
        await eventually(async () => {
          const events = await cluster.admin({ do: 'events', after: beforeSeq });
          expect(events.map((e) => e.kind)).toContain('apply-failed');
        });
        // Its copy can be made without the row.
        await bounded(cluster.postgres(leader).query(`DELETE FROM ${table} WHERE id = $1`, [key]), 'the DELETE');
        if (round === 1) await eventually(async () => expect((await row())?.state).toBe('ready'), 60_000);
      }
      expect(await row()).toMatchObject({ state: 'stale', why: expect.stringMatching(/check constraint "ever"/) });
      const { blocked } = await cluster.admin({ do: 'plan', rebalance: true });
      expect(blocked.map((b) => b.why).join()).toMatch(/given up \d times and is copied again in \d+ s: .*"ever"/);
      const { operations } = await cluster.admin({
        do: 'partition-migrate',
        table,
        pids: [pid],
        from: follower,
        to: third,
      });
      expect((await cluster.waitForOperation(must(operations[0], 'operation'))).status).toBe('done');
      expect(await row()).toBeUndefined();
    } finally {
      await sabotage(follower, ...NEVER_AGAIN);
    }
    await bounded(cluster.postgres(leader).query(`INSERT INTO ${table} VALUES ($1, $2, 1)`, [key, POISON]), 'the last');
    await expectReplicasEqual(cluster);
    await eventually(() => expectSettled(cluster, nodes));
  });

  it('a copy that PostgreSQL cannot make says why, and is undone', async () => {
    const { pid, leader, follower } = await pairOf(KINDS.length + 2);
    const third = must(
      nodes.find((n) => n !== leader && n !== follower),
      'node without a replica',
    );
    const [key = 0] = await keysOf(pid, 1);
    await cluster.sql(leader).query(`INSERT INTO ${table} VALUES ($1, $2, 1)`, [key, POISON]);
    await sabotage(third, ...EVER_AGAIN);
    try {
      const { operations } = await cluster.admin({ do: 'partition-add-replica', table, pids: [pid], node: third });
      const id = must(operations[0], 'operation');
      const said = new Set<string>();
      await eventually(async () => {
        const operation = await cluster.admin({ do: 'op-show', id });
        said.add(operation.waitsFor?.text ?? '');
        expect(operation.status).toBe('failed');
        expect(operation.error).toMatchObject({
          code: 'COPY_FAILED',
          message: expect.stringMatching(/constraint "ever"/),
        });
      }, 60_000);
      expect([...said].join('\n')).toMatch(/fails \(\d+ tries\): .*check constraint "ever"/);
    } finally {
      await sabotage(third, ...NEVER_AGAIN);
    }
    await expectReplicasEqual(cluster);
    // What PostgreSQL has said last is told for some seconds.
    await eventually(() => expectSettled(cluster, nodes));
  });
});
