import { expect, test } from 'vitest';
import { planLines } from '../../../src/node/plan-lines.ts';

test('a plan is shown move by move, with what has no place and what becomes of each node', () => {
  const move = { kind: 'move-replica', table: 'acct', pid: 3, from: 1, to: 4, bytes: 12 << 20, reason: 'spread' };
  expect(
    planLines({
      moves: [move, { ...move, kind: 'add-replica', from: null, pid: 4, bytes: 0, reason: 'repair' }],
      bytesMoved: 12 << 20,
      bytesMinimal: 8 << 20,
      blocked: [
        { table: 'acct', pid: 5, node: 2, why: 'no node has room' },
        { table: 'acct', pid: 6, node: null, why: 'no node is left' },
      ],
      balance: [
        {
          ...{ node: 4, replicasBefore: 0, replicasAfter: 2, leadersBefore: 0, leadersAfter: 1 },
          bytesBefore: 0,
          bytesAfter: 12 << 20,
        },
      ],
    }),
  ).toEqual([
    'Moves: 2, 12.0 MiB (at least 8.00 MiB)',
    '  ->  move-replica acct 3: n1 -> n4, 12.0 MiB (spread)',
    '  ->  add-replica acct 4: n4, 0 B (repair)',
    '  ->  Blocked: acct 5 on n2: no node has room',
    '  ->  Blocked: acct 6: no node is left',
    'Node 4: replicas 0 -> 2, leaders 0 -> 1, 0 B -> 12.0 MiB',
  ]);
  expect(planLines({ moves: [], balance: [], bytesMoved: 0, bytesMinimal: 0, blocked: [] })).toEqual(['Nothing to do']);
});
