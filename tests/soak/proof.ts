import { setTimeout as sleep } from 'node:timers/promises';
import type { OperationRow } from '../../src/api/results.ts';
import { messageOf } from '../../src/core/errors.ts';
import { crookedHinges, differentReplicas, wrongGuards } from '../support/checks.ts';
import type { Book } from './traffic.ts';
import type { World } from './world.ts';

const SETTLE_MS = 150_000;
const QUIET_MS = 3_000;
const AGREE_MS = 30_000;

/**
 * The run is over and all faults with it: what was begun comes to its end, and then everything is compared
 * with everything.
 */
export async function prove(world: World, books: readonly Book[]): Promise<void> {
  await settle(world);
  // A scale-in that came to its end only now: what has left forwards as before, and nobody points its hinges
  // any more.
  for (const { id, state } of await world.admin({ do: 'node-status' }))
    if (state === 'decommissioned') world.members.delete(id);
  for (const book of books) await expectNothingLost(world, book);
  const { cluster } = world;
  const nodes = [...world.members];
  await agrees(world, async () => differentReplicas(cluster, await world.admin({ do: 'partition-ls' })));
  await agrees(world, () => crookedHinges(cluster, nodes));
  await agrees(world, () => wrongGuards(cluster));
  await agrees(world, async () => {
    const { findings, unreachable } = await world.admin({ do: 'doctor' }, 60_000);
    return [
      ...findings.map((f) => `doctor: node ${f.node}: ${f.kind} ${f.name}: ${f.why}`),
      ...unreachable.map((u) => `doctor: node ${u.node} could not be asked: ${u.why}`),
    ];
  });
  await expectSoundOperations(world);
}

/** Until nothing runs any more. What still does then waits for something that nobody keeps from it. */
async function settle(world: World): Promise<void> {
  for (const [key, value] of [
    ['move.max_pause', '200'],
    ['move.concurrency', '4'],
    ['rebalance.auto', 'on'],
  ] as const)
    await world.admin({ do: 'setting-set', key, value });
  const until = performance.now() + SETTLE_MS;
  let quietSince = performance.now();
  let unended: OperationRow[] = [];
  while (performance.now() < until) {
    const seen = await world.unended().catch(() => null);
    if (seen === null || seen.length > 0) quietSince = performance.now();
    unended = seen ?? unended;
    if (performance.now() - quietSince > QUIET_MS) return;
    await sleep(300);
  }
  for (const { id, kind, subject, status, step, waitsFor } of unended)
    world.find(
      `operation ${id} (${kind} ${subject}) has not ended ${SETTLE_MS / 1000} s after all faults: ${status} at ${step}, waits for ${waitsFor?.text ?? 'nothing it names'}`,
    );
}

async function expectNothingLost(world: World, { table, ledger }: Book): Promise<void> {
  for (const node of world.members) {
    const { rows } = await world.cluster.sql(node).query(`SELECT id, value, writes FROM ${table}`);
    const found = new Map(rows.map((r) => [Number(r.id), { value: String(r.value), writes: Number(r.writes) }]));
    if (found.size !== rows.length)
      world.find(`${table} through node ${node}: ${rows.length - found.size} rows are there twice`);
    const lost = [...ledger.lost(found).keys()];
    const shown = lost
      .slice(0, 5)
      .map((k) => `${k} is ${JSON.stringify(found.get(k))}, not ${JSON.stringify(ledger.expected(k))}`);
    if (lost.length > 0)
      world.find(`${table} through node ${node}: ${lost.length} keys lack acknowledged writes: ${shown.join('; ')}`);
  }
}

/** What is a moment behind gets its moment. */
async function agrees(world: World, check: () => Promise<string[]>): Promise<void> {
  const until = performance.now() + AGREE_MS;
  for (;;) {
    const wrong = await check().catch((error: unknown) => [`could not be compared: ${messageOf(error)}`]);
    if (wrong.length === 0) return;
    if (performance.now() > until) {
      for (const text of wrong) world.find(text);
      return;
    }
    await sleep(500);
  }
}

async function expectSoundOperations(world: World): Promise<void> {
  for (const { id, kind, subject, status, error, createdAt } of await world.admin({ do: 'op-ls', all: true })) {
    world.trace(
      `operation ${id} ${createdAt.slice(11, 23)} ${kind} ${subject}: ${status}${error ? ` ${error.code}: ${error.message}` : ''}`,
    );
    world.count(`${kind} ${status}`);
    if (error?.code === 'INTERNAL') world.find(`operation ${id} (${kind} ${subject}) failed: ${error.message}`);
  }
}
