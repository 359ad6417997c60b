import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Fault, World } from '../../fakes/world.ts';
import { SCENARIOS } from './support/scenarios.ts';

/**
 * What each operation does, step by step, to be read aloud. Steps stand at the margin, changes of servers and
 * of the catalog below them; `*` marks the leader. `REWRITE=1 npx vitest run --project unit
 * tests/unit/operations/golden.test.ts` writes the file.
 */
const FILE = new URL('testdata/transcripts.txt', import.meta.url);

interface Transcript {
  title: string;
  scenario: string;
  /** Only what the catalog and the events say: for operations made of many moves. */
  brief?: true;
  cancelAt?: string;
}

const TRANSCRIPTS: readonly Transcript[] = [
  { title: 'add-replica', scenario: 'add-replica' },
  { title: 'remove-replica', scenario: 'remove-replica' },
  { title: 'change-leader', scenario: 'change-leader' },
  { title: 'move-replica of a leader', scenario: 'move-replica of a leader' },
  {
    title: 'move-replica, cancelled when its rows have been copied',
    scenario: 'move-replica of a leader',
    cancelAt: 'n4: publish',
  },
  {
    title: 'move-replica, cancelled just before the swing',
    scenario: 'move-replica of a leader',
    cancelAt: 'n4: guard',
  },
  { title: 'resync-replica', scenario: 'resync-replica' },
  { title: 'create-table', scenario: 'create-table' },
  { title: 'create-table, cancelled', scenario: 'create-table', cancelAt: 'n3: create parent' },
  { title: 'drop-table', scenario: 'drop-table' },
  { title: 'join-node', scenario: 'join-node' },
  { title: 'drain-node, two replicas on four nodes', scenario: 'drain-node', brief: true },
  { title: 'drain-node of a single replica', scenario: 'drain-node of a single replica' },
  { title: 'drain-node alone', scenario: 'drain-node alone', brief: true },
  { title: 'drain-node, cancelled', scenario: 'drain-node', brief: true, cancelAt: 'n4: guard' },
  { title: 'drain-node off, of a single replica', scenario: 'drain-node off, of a single replica' },
  { title: 'failover', scenario: 'failover' },
  { title: 'recover-node', scenario: 'recover-node' },
  { title: 'give-up-node', scenario: 'give-up-node' },
  { title: 'drop-node with a last copy', scenario: 'drop-node' },
  { title: 'rebalance', scenario: 'rebalance', brief: true },
  { title: 'decommission of two nodes', scenario: 'decommission of two', brief: true },
  {
    title: 'decommission, cancelled when a replica has moved',
    scenario: 'decommission',
    brief: true,
    cancelAt: 'n2: swing',
  },
];

test('operations do what the transcripts say', async () => {
  const parts: string[] = [];
  for (const transcript of TRANSCRIPTS) parts.push(await run(transcript));
  const text = `${parts.join('\n\n')}\n`;
  if (process.env.REWRITE) writeFileSync(FILE, text);
  expect(text).toBe(readFileSync(FILE, 'utf8'));
});

async function run({ title, scenario: name, brief, cancelAt }: Transcript): Promise<string> {
  const scenario = SCENARIOS.find((s) => s.name === name);
  if (!scenario) throw new Error(`there is no scenario ${name}`);
  const fault = async (): Promise<Fault | null> => {
    if (cancelAt === undefined) return null;
    const rehearsal = await scenario.world();
    await rehearsal.run(scenario.kind, scenario.input);
    return { at: rehearsal.changes().findIndex((e) => e.startsWith(cancelAt)) + 1, mode: 'cancelled' };
  };
  const planned = await fault();
  const world = await scenario.world();
  await world.run(scenario.kind, scenario.input, planned);
  return [`# ${title}`, ...lines(world, brief === true)].join('\n');
}

/** Steps as headings; a record that is written again within its step says nothing new. */
function lines(world: World, brief: boolean): string[] {
  const shown = new Map<string, string>();
  return world.effects.flatMap((effect) => {
    const [, id = '', kind = '', state = ''] = /^op (\d+) ([\w-]+): (.*)$/.exec(effect) ?? [];
    if (id === '') return brief && !/^(catalog| {2}event)/.test(effect) ? [] : [`    ${effect.trim()}`];
    if (shown.get(id) === state) return [];
    shown.set(id, state);
    const told = brief && / /.test(state) && !state.startsWith('undoing') ? [] : [state.replace(/^running /, '')];
    return told.map((text) => (id === '1' ? text : `  ${kind} ${id}: ${text}`));
  });
}
