import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { failureText, LocalCluster } from '../../src/local/local-cluster.ts';
import { Random } from '../fakes/random.ts';
import { Faults } from './faults.ts';
import { Janitor, Watcher } from './keepers.ts';
import { Membership, Operator } from './operations.ts';
import { prove } from './proof.ts';
import { Book, Traffic } from './traffic.ts';
import { World } from './world.ts';

/**
 * `npm run test:soak -- --minutes=M [--seed=N]`: random operations and faults on real servers under load,
 * until time is up or Ctrl-C, and then the proof. Its trace, and the logs of a run that failed, are left in
 * `tmp/soak/SEED`.
 */

const NODES = 4;
const REPLICAS = 3;
const TRACE_SHOWN = 60;
const NEWS_MS = 30_000;
/** Names under which faults, and operations that have ended, are counted. */
const FAULTS = /^fault /;
const OPERATIONS = /^operation /;
/** A run that did next to nothing proves nothing: per minute, far below what two busy cores do. */
const LEAST_PER_MINUTE = [
  { what: 'updates answered', counted: /^updates answered$/, least: 60 },
  { what: 'counts answered', counted: /^counts answered$/, least: 4 },
  { what: 'transactions answered', counted: /^transactions answered$/, least: 10 },
  { what: 'rounds of maintenance', counted: /^maintenance$/, least: 2 },
  { what: 'faults', counted: FAULTS, least: 2 },
  { what: 'operations ended', counted: OPERATIONS, least: 2 },
];

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '5' }, seed: { type: 'string' } } });
const minutes = Number(values.minutes);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
if (!(minutes > 0) || !Number.isInteger(seed)) {
  process.stderr.write('usage: npm run test:soak -- --minutes=M [--seed=N]\n');
  process.exit(2);
}

const say = (text: string) => void process.stdout.write(`${text}\n`);
const dir = join('tmp', 'soak', String(seed));
const traceFile = join(dir, 'trace.log');
rmSync(dir, { recursive: true, force: true });
mkdirSync(dir, { recursive: true });
writeFileSync(traceFile, '');
process.exit(await soak());

async function soak(): Promise<number> {
  say(`soak: seed ${seed}, ${minutes} minutes, trace in ${traceFile}`);
  const cluster = await LocalCluster.create();
  const world = new World(cluster, new Random(seed), traceFile);
  const stop = () => world.stop();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    await run(world);
  } catch (error) {
    world.find(`the run ended: ${error instanceof Error ? error.stack : failureText(error)}`);
  } finally {
    if (world.findings.length > 0) keepLogs(cluster);
    await cluster.close();
  }
  return report(world);
}

async function run(world: World): Promise<void> {
  for (let started = 0; started < NODES; started++) world.members.add((await world.cluster.addNode()).id);
  const books = [new Book('acct', 'bigint', 8), new Book('item', 'text', 4)];
  const traffics: Traffic[] = [];
  for (const book of books) {
    const { partitions, sql } = book;
    const { operation } = await world.admin({ do: 'table-create', sql, partitions, replicas: REPLICAS });
    await world.cluster.waitForOperation(operation);
    const traffic = new Traffic(world, book);
    await traffic.load();
    traffics.push(traffic);
  }
  const watcher = new Watcher(world);
  await watcher.look();
  const timer = setTimeout(() => world.stop(), minutes * 60_000);
  const news = setInterval(() => say(newsOf(world)), NEWS_MS);
  for (const traffic of traffics) traffic.start();
  const actors = [
    new Operator(world, 'a'),
    new Operator(world, 'b'),
    new Operator(world, 'c'),
    new Membership(world, traffics),
    new Faults(world),
    new Faults(world),
    new Janitor(world),
    watcher,
  ];
  await Promise.all(actors.map((actor) => actor.run()));
  await Promise.all(traffics.map((traffic) => traffic.end()));
  clearTimeout(timer);
  clearInterval(news);
  await watcher.look();
  await world.judgeFailures(true);
  say('soak: the load has ended; proof');
  await prove(world, books);
  for (const { what, counted, least } of LEAST_PER_MINUTE) {
    const count = countOf(world, counted);
    if (count < least * world.minutes)
      world.find(`only ${count} ${what} in ${world.minutes.toFixed(1)} minutes: this run proves little`);
  }
}

function countOf({ counts }: World, pattern: RegExp): number {
  return [...counts].reduce((sum, [key, n]) => sum + (pattern.test(key) ? n : 0), 0);
}

function newsOf(world: World): string {
  const { findings, members } = world;
  const sum = (pattern: RegExp) => countOf(world, pattern);
  return `soak: ${sum(/answered$/)} statements, ${sum(/^excused/)} failed in faults, ${sum(OPERATIONS)} operations, ${sum(FAULTS)} faults, ${members.size} nodes, ${findings.length} findings`;
}

/** What each node and its PostgreSQL have written. */
function keepLogs(cluster: LocalCluster): void {
  for (const { id, store } of cluster.nodes) {
    for (const name of ['node.log', 'postgresql.log']) {
      const from = join(store, 'logs', name);
      if (existsSync(from)) copyFileSync(from, join(dir, `n${id}-${name}`));
    }
  }
}

function report(world: World): number {
  for (const [what, count] of [...world.counts].sort()) say(`  ${String(count).padStart(7)} ${what}`);
  if (world.findings.length === 0) {
    say(`soak: everything holds (seed ${seed})`);
    return 0;
  }
  const trace = readFileSync(traceFile, 'utf8').trimEnd().split('\n');
  say(['The last events:', ...trace.slice(-TRACE_SHOWN)].join('\n'));
  say(['', `${world.findings.length} findings:`, ...world.findings.map((f) => `✗ ${f}`)].join('\n'));
  say(`soak: not everything holds. Again: npm run test:soak -- --minutes=${minutes} --seed=${seed}`);
  return 1;
}
