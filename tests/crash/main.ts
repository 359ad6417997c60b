import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { failureText } from '../../src/local/local-cluster.ts';
import { allCases } from './cases.ts';
import { type Case, type Played, play, titleOf } from './play.ts';
import { Stage } from './stage.ts';

/**
 * `npm run test:crash [-- --kind=K --step=S --moment=M --victim=V --minutes=N --skip=N]`: kill -9 at every
 * step boundary of every kind of operation, on real servers under load, on one cluster. A case that fails
 * leaves its logs in `tmp/crash`, and the next one gets a new cluster.
 */

const { values } = parseArgs({
  options: {
    kind: { type: 'string' },
    step: { type: 'string' },
    moment: { type: 'string' },
    victim: { type: 'string' },
    minutes: { type: 'string', default: '600' },
    skip: { type: 'string', default: '0' },
  },
});

const DIR = join('tmp', 'crash');
const say = (text: string) => void process.stdout.write(`${text}\n`);
let stopped = false;
const stop = () => {
  stopped = true;
};
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);

interface Result {
  readonly case: Case;
  readonly played: Played | null;
  readonly failure: string | null;
}

process.exit(await main());

async function main(): Promise<number> {
  const wanted = (value: string | undefined, is: string) => value === undefined || value.split(',').includes(is);
  const cases = allCases()
    .filter(({ boundary, victim }) => wanted(values.kind, boundary.kind) && wanted(values.victim, victim))
    .filter(({ boundary }) => wanted(values.step, boundary.step) && wanted(values.moment, boundary.moment))
    .slice(Number(values.skip));
  if (cases.length === 0) {
    process.stderr.write(
      'ERROR: no case is like that\nhint: kinds are those of src/operations/registry.ts, each with its steps\n',
    );
    return 2;
  }
  say(`crash: ${cases.length} cases`);
  const results = await playAll(cases, performance.now() + Number(values.minutes) * 60_000);
  report(cases.length, results);
  return results.every((r) => r.failure === null) ? 0 : 1;
}

async function playAll(cases: readonly Case[], untilMs: number): Promise<Result[]> {
  const results: Result[] = [];
  let stage: Stage | null = null;
  try {
    for (const [i, one] of cases.entries()) {
      if (stopped || performance.now() > untilMs) break;
      stage ??= await Stage.open();
      const result = await playOne(stage, one);
      results.push(result);
      const { played, failure } = result;
      const how = played ? `${played.status}, ${played.acknowledged} writes, ${(played.ms / 1000).toFixed(1)} s` : '';
      say(`${String(i + 1).padStart(4)} ${failure === null ? 'ok  ' : 'FAIL'} ${titleOf(one)}: ${failure ?? how}`);
      if (failure === null) continue;
      await keepLogs(stage, one, failure);
      await stage.close();
      stage = null;
    }
  } finally {
    await stage?.close();
  }
  return results;
}

async function playOne(stage: Stage, one: Case): Promise<Result> {
  try {
    const played = await play(stage, one);
    return {
      case: one,
      played,
      failure: played.wrong.length === 0 ? null : `${played.status}: ${played.wrong.join('\n       ')}`,
    };
  } catch (error) {
    return { case: one, played: null, failure: failureText(error) };
  }
}

async function keepLogs(stage: Stage, one: Case, failure: string): Promise<void> {
  const dir = join(DIR, titleOf(one).replaceAll(/[^\w-]+/g, '_'));
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'failure.txt'), `${failure}\n`);
  const events = await stage.cluster.admin({ do: 'events', limit: 1_000 }).catch(() => []);
  writeFileSync(join(dir, 'events.txt'), events.map((e) => `${e.at} ${e.kind} ${e.text}\n`).join(''));
  for (const { id, store } of stage.cluster.nodes) {
    for (const name of ['node.log', 'postgresql.log']) {
      const from = join(store, 'logs', name);
      if (existsSync(from)) copyFileSync(from, join(dir, `node-${id}-${name}`));
    }
  }
}

/** Kinds × what was played, and the sums. */
function report(cases: number, results: readonly Result[]): void {
  const kinds = [...new Set(results.map((r) => r.case.boundary.kind))];
  const count = (of: readonly Result[], is: (r: Result) => boolean) => of.filter(is).length;
  say('\n| kind | cases | done | undone | wrong |\n|---|---|---|---|---|');
  const line = (name: string, of: readonly Result[]) => {
    const done = count(of, (r) => r.failure === null && r.played?.status === 'done');
    const undone = count(of, (r) => r.failure === null && r.played?.status !== 'done');
    say(`| ${name} | ${of.length} | ${done} | ${undone} | ${count(of, (r) => r.failure !== null)} |`);
  };
  for (const kind of kinds)
    line(
      kind,
      results.filter((r) => r.case.boundary.kind === kind),
    );
  line('all', results);
  const writes = results.reduce((sum, r) => sum + (r.played?.acknowledged ?? 0), 0);
  say(
    `\n${results.length} of ${cases} cases played, ${count(results, (r) => r.played !== null)} kills hit, ${writes} writes acknowledged after them and found`,
  );
}
