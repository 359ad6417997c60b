import { expect, test } from 'vitest';
import { applyChange } from '../../../src/catalog/change.ts';
import { replicaKey } from '../../../src/catalog/view.ts';
import { must } from '../../../src/core/assert.ts';
import { Balancer } from '../../../src/manager/balancer.ts';
import type { Runner } from '../../../src/operations/runner.ts';
import { Script } from '../placement/script.ts';

/**
 * A balancer that notes what it tells and what it starts; every round sees the cluster that the lines
 * describe.
 */
function balancer() {
  const told: string[] = [];
  const submitted: string[] = [];
  const runner = {
    unended: () => [],
    submit: async (kind: string) => void submitted.push(kind),
  } as unknown as Runner;
  const it = new Balancer(async ({ kind, text }) => void told.push(`${kind}: ${text}`));
  const round = (lines: string) => {
    const script = new Script();
    for (const line of lines.trim().split('\n')) script.run(line.trim());
    return it.round(runner, script.view, script.load);
  };
  return { round, told, submitted };
}

const TABLE = `
  table acct partitions=4 replicas=3 on=1,2,3 mb=100
  partition acct 1 on=1,2 mb=100`;

test('a replica that nobody can take is told of once, and again when others are missing', async () => {
  const { round, told } = balancer();
  const three = `node 1-3${TABLE}\n partition acct 2 on=1,3 mb=100`;
  const full = `${three}\n node 4 disk=100/1`;
  for (let i = 0; i < 3; i++) await round(full.replace('node 1-3', 'node 1-3 disk=100/1'));
  expect(told).toEqual([
    'replicas-missing: replicas of acct 1, acct 2 are missing: 0 of 4 live nodes can take a replica of acct 1 (2 full, 2 already hold it)',
  ]);
  for (let i = 0; i < 3; i++) await round(`node 1-3 disk=100/1${TABLE}\n node 4 disk=100/1`);
  expect(told[1]).toMatch(/^replicas-missing: replicas of acct 1 are missing/);
  expect(told).toHaveLength(2);
});

test('where there is room it is made, on the second look, and nothing is told', async () => {
  const { round, told, submitted } = balancer();
  const roomy = `node 1-4 disk=100/90${TABLE}`;
  await round(roomy);
  expect(submitted).toEqual([]);
  await round(roomy);
  expect(submitted).toEqual(['rebalance']);
  expect(told).toEqual([]);
});

test('a replica that is held back no more is copied again as soon as that', async () => {
  const submitted: string[] = [];
  const runner = { unended: () => [], submit: async (kind: string) => void submitted.push(kind) } as unknown as Runner;
  const it = new Balancer(async () => {});
  const script = new Script();
  for (const line of ['node 1-2', 'table acct partitions=1 replicas=2 on=1,2 mb=100']) script.run(line);
  const { tid } = must([...script.view.tables.values()][0], 'table');
  const { view } = applyChange(script.view, { kind: 'replica-changed', tid, pid: 0, node: 2, state: 'stale' });
  const heldBack = new Map([[replicaKey({ tid, pid: 0 }, 2), 'it is taken out of its stream']]);
  for (let i = 0; i < 3; i++) await it.round(runner, view, { ...script.load, heldBack });
  expect(submitted).toEqual([]);
  for (let i = 0; i < 2; i++) await it.round(runner, view, script.load);
  expect(submitted).toEqual(['rebalance']);
});
