import { LocalCluster } from '../src/local/local-cluster.ts';
import { type Benchmark, median, seconds } from './benchmark.ts';

const NODES = 3;
const ROUNDS = 3;

/** From nothing to a cluster that takes statements, and a node's return to it. */
export const startUp: Benchmark = {
  name: 'start-up',
  about: `a cluster of ${NODES} nodes from empty directories, one node after the other, then a restart of the last; median of ${ROUNDS}`,
  run: async (note) => {
    const rounds: Times[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      rounds.push(await startOnce());
      note(`round ${round + 1} of ${ROUNDS}`);
    }
    const figure = (what: string, of: (times: Times) => number) => ({ what, value: seconds(median(rounds.map(of))) });
    return [
      figure('first node', (t) => t.firstMs),
      figure('a node that joins', (t) => t.joinMs),
      figure(`all ${NODES} nodes`, (t) => t.allMs),
      figure('restart of a node', (t) => t.restartMs),
    ];
  },
};

interface Times {
  readonly firstMs: number;
  readonly joinMs: number;
  readonly allMs: number;
  readonly restartMs: number;
}

async function startOnce(): Promise<Times> {
  const cluster = await LocalCluster.create();
  try {
    const eachMs: number[] = [];
    for (let started = 0; started < NODES; started++) eachMs.push(await timed(() => cluster.addNode()));
    const last = cluster.nodes.at(-1);
    if (!last) throw new Error('the cluster has no node');
    await last.stop();
    const restartMs = await timed(() => last.restart());
    const allMs = eachMs.reduce((sum, one) => sum + one, 0);
    return { firstMs: eachMs[0] ?? 0, joinMs: median(eachMs.slice(1)), allMs, restartMs };
  } finally {
    await cluster.close();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}
