import { expect, test } from 'vitest';
import type { NodeConnections } from '../../../src/postgres/sql/client.ts';
import { ensurePublication } from '../../../src/postgres/sql/publication.ts';
import { PostgresStreams } from '../../../src/postgres/streams.ts';
import { ScriptedSql } from './support/scripted-sql.ts';

/** Node 1 sends to node 2. `published` and `subscribed`: what its two sides say. */
function streams(published: string[], subscribed: string[]) {
  const said: string[] = [];
  const tables = new Set(published);
  const taken = new Set(subscribed);
  const node = (id: number) => {
    const sql = new ScriptedSql({
      pg_publication_tables: () => [...tables].map((name) => ({ name })),
      pg_subscription_rel: () => [...taken].map((name) => ({ name, state: 'r' })),
    });
    const query = sql.query.bind(sql);
    sql.query = async (text: string) => {
      const [, verb, list = ''] = /PUBLICATION "tide_to_2" (ADD|DROP) TABLE (.*)$/.exec(text) ?? [];
      const names = [...list.matchAll(/t\d+_p\d+/g)].map(([name]) => name);
      for (const name of names) verb === 'ADD' ? tables.add(name) : tables.delete(name);
      if (verb) said.push(`${id}: ${verb} ${names.join(', ')}`);
      if (text.includes('REFRESH PUBLICATION')) {
        said.push(`${id}: REFRESH to ${[...tables].sort().join(', ')}`);
        taken.clear();
        for (const name of tables) taken.add(name);
      }
      return query(text);
    };
    return sql;
  };
  const nodes = new Map([1, 2].map((id) => [id, node(id)]));
  const connections = { on: (id: number) => nodes.get(id) } as unknown as NodeConnections;
  const markers = { write: async () => '1', arrives: async () => true };
  return { said, streams: new PostgresStreams(connections, () => ({ host: 'h', port: 1 }), markers) };
}

test('a refresh finds only what its own caller has published: what somebody else left there goes first', async () => {
  const { said, streams: plane } = streams(['t1_p0', 't9_p9'], ['t1_p0']);
  await plane.start(1, 2, [{ tid: 1, pid: 1 }], true);
  expect(said).toEqual(['1: DROP t9_p9', '1: ADD t1_p1', '2: REFRESH to t1_p0, t1_p1']);
});

test('two that change a stream at once do so one after the other', async () => {
  const { said, streams: plane } = streams([], []);
  await Promise.all([1, 2].map((pid) => plane.start(1, 2, [{ tid: 1, pid }], true)));
  expect(said).toEqual(['1: ADD t1_p1', '2: REFRESH to t1_p1', '1: ADD t1_p2', '2: REFRESH to t1_p1, t1_p2']);
});

test('a publication carries the marker of its own node, and no other', async () => {
  const sql = new ScriptedSql();
  await ensurePublication(sql, 1, 2);
  expect(sql.asked.at(-1)).toContain('CREATE PUBLICATION "tide_to_2" FOR TABLE tide.marker WHERE (src = 1)');
});
