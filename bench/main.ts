import { cpus, totalmem } from 'node:os';
import { failureText } from '../src/local/local-cluster.ts';
import { become, chooseUser } from '../src/root/user.ts';
import type { Benchmark, Figure } from './benchmark.ts';
import { commits } from './commits.ts';
import { copy } from './copy.ts';
import { failover } from './failover.ts';
import { memory } from './memory.ts';
import { pauses } from './pauses.ts';
import { planner } from './planner.ts';
import { route } from './route.ts';
import { startUp } from './start-up.ts';

const BENCHMARKS: readonly Benchmark[] = [planner, startUp, memory, pauses, copy, commits, failover, route];

/** Runs the named benchmarks, or all; the tables go to stdout as Markdown, what is going on to stderr. */
async function main(names: readonly string[]): Promise<number> {
  const unknown = names.filter((name) => BENCHMARKS.every((b) => b.name !== name));
  if (unknown.length > 0) {
    const known = BENCHMARKS.map((b) => b.name).join(', ');
    console.error(`ERROR: no benchmark is called ${unknown.join(', ')}\nhint: there are ${known}`);
    return 2;
  }
  // Some run a PostgreSQL of their own, which root may not.
  const user = chooseUser();
  if (user !== null) become(user);
  console.log(machine());
  for (const benchmark of BENCHMARKS) {
    if (names.length > 0 && !names.includes(benchmark.name)) continue;
    console.error(`${benchmark.name} …`);
    const figures = await benchmark.run((text) => console.error(`  ${text}`));
    console.log(`\n## ${benchmark.name}\n\n${benchmark.about}.\n\n${table(figures)}`);
  }
  return 0;
}

function machine(): string {
  const [cpu] = cpus();
  const memoryGib = Math.round(totalmem() / 1024 ** 3);
  return `${cpus().length} × ${cpu?.model.trim() ?? 'unknown'}, ${memoryGib} GiB, Node ${process.version}, ${process.platform}`;
}

function table(figures: readonly Figure[]): string {
  return ['| what | measured |', '|---|---|', ...figures.map((f) => `| ${f.what} | ${f.value} |`)].join('\n');
}

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(`ERROR: ${failureText(error)}`);
  return 1;
});
