import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OperationResult } from '../api/results.ts';
import type { DemoOptions } from '../api/start-options.ts';
import { must } from '../core/assert.ts';
import { tideError } from '../core/errors.ts';
import { humanBytes } from '../core/units.ts';
import { Ledger } from '../local/ledger.ts';
import { failureText, LocalCluster } from '../local/local-cluster.ts';
import type { LocalNode } from '../local/local-node.ts';
import { leaveRoot } from '../root/leave-root.ts';
import { CITIES_SQL, type CityBook, loadCities, readCities } from './cities.ts';
import { prove } from './proof.ts';
import { type DemoReport, minimalBytes, movedBytes, pauseSummary, type Verdict, verdicts } from './report.ts';
import { render } from './screen.ts';
import { createTerminal, type Terminal } from './terminal.ts';
import { TRAFFIC_SQL, Traffic } from './traffic.ts';
import { type Seen, Watcher } from './watcher.ts';

const CITY_PARTITIONS = 8;
const TRAFFIC_PARTITIONS = 4;
const REPLICAS = 3;
/** Traffic beside nothing else: before the first change, between the two, after the last. */
const DEFAULT_SECONDS = 12;
const HOLDS = 3;
const SPREAD_MS = 180_000;
const NEWS_MS = 10_000;

/**
 * The main job: three nodes, real data, live traffic; a fourth node joins and takes its share, then one of
 * the first is decommissioned and stopped, and everything is proven at the end. Returns the exit status: 0
 * only if every proof holds.
 */
export async function runDemo(options: DemoOptions): Promise<number> {
  const terminal = createTerminal(process.stdout, process.env);
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  for (const signal of SIGNALS) process.on(signal, interrupt);
  const untilInterrupted = once(interrupted.signal, 'abort').then(() => INTERRUPTED);
  // Named by who runs the demo, and his to write.
  const report = options.report === undefined ? null : await open(options.report, 'w');
  await leaveRoot({});
  const cluster = await LocalCluster.create();
  const playing = new DemoRun(cluster, terminal, options, report, interrupted.signal).play();
  try {
    const status = await Promise.race([playing, untilInterrupted]);
    if (!options.exit && process.stdout.isTTY === true && !interrupted.signal.aborted) {
      sayHowToConnect(cluster, terminal);
      await untilInterrupted;
    }
    return status;
  } catch (error) {
    terminal.say(`The demo failed: ${failureText(error)}`);
    return 1;
  } finally {
    terminal.draw([]);
    terminal.say('Stopping all nodes and removing their stores.');
    await cluster.close();
    // Without a cluster it comes to its end at its next call.
    await playing.catch(() => {});
    await report?.close();
    for (const signal of SIGNALS) process.off(signal, interrupt);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What a shell reports for a program ended by Ctrl-C. */
const INTERRUPTED = 130;

class DemoRun {
  readonly #cluster: LocalCluster;
  readonly #terminal: Terminal;
  readonly #options: DemoOptions;
  readonly #report: FileHandle | null;
  readonly #interrupted: AbortSignal;
  readonly #beginMs = performance.now();
  readonly #ledger = new Ledger();
  #phase = 'starting';
  #traffic: Traffic | null = null;

  constructor(
    cluster: LocalCluster,
    terminal: Terminal,
    options: DemoOptions,
    report: FileHandle | null,
    interrupted: AbortSignal,
  ) {
    this.#cluster = cluster;
    this.#terminal = terminal;
    this.#options = options;
    this.#report = report;
    this.#interrupted = interrupted;
  }

  async play(): Promise<number> {
    const watcher = new Watcher(this.#cluster, this.#terminal.isLive, (seen) => this.#draw(seen));
    try {
      await this.#startNodes();
      watcher.start();
      const book = await this.#load();
      const traffic = this.#startTraffic(book);
      await this.#hold('three nodes');
      await this.#scaleOut(traffic);
      await this.#hold('four nodes');
      await this.#scaleIn(traffic);
      await this.#hold('three nodes again');
      await traffic.stop();
      this.#phase = 'proof';
      const { report, all } = await this.#prove(book, traffic);
      await watcher.stop();
      this.#terminal.draw([]);
      this.#sayResult(report, all, traffic.stats.latency.percentileMs(0.99));
      if (this.#report !== null) {
        await this.#report.writeFile(`${JSON.stringify(report, null, 2)}\n`);
      }
      return all.every((v) => v.holds) ? 0 : 1;
    } finally {
      await Promise.all([watcher.stop(), this.#traffic?.stop()]);
    }
  }

  async #startNodes(): Promise<void> {
    this.#say('Starting three nodes: each a PostgreSQL of its own with a pgtide process beside it.');
    const first = await this.#cluster.addNode();
    this.#say(`Node ${first.id} started a new cluster at ${first.address}.`);
    for (let more = 0; more < 2; more++) {
      const node = await this.#cluster.addNode();
      this.#say(`Node ${node.id} joined at ${node.address}.`);
    }
  }

  async #load(): Promise<CityBook> {
    this.#phase = 'loading';
    const book = await readCities(this.#options.rows);
    await this.#createTable(CITIES_SQL, CITY_PARTITIONS);
    await this.#createTable(TRAFFIC_SQL, TRAFFIC_PARTITIONS);
    this.#say(
      `Tables cities (${CITY_PARTITIONS} partitions) and traffic (${TRAFFIC_PARTITIONS}) stand, ${REPLICAS} replicas of each partition.`,
    );
    const begin = performance.now();
    const news = this.#everyNewsMs();
    const client = await this.#cluster.sql(this.#firstNode().id).connect();
    await loadCities(client, book, (rows) => news(() => `${count(rows)} of ${count(book.count)} cities`)).finally(() =>
      client.release(),
    );
    this.#say(
      `${count(book.count)} cities loaded with one COPY through node ${this.#firstNode().id} in ${seconds(performance.now() - begin)}.`,
    );
    return book;
  }

  async #createTable(sql: string, partitions: number): Promise<void> {
    const { operation } = await this.#cluster.admin({ do: 'table-create', sql, partitions, replicas: REPLICAS });
    await this.#cluster.waitForOperation(operation);
  }

  #startTraffic(book: CityBook): Traffic {
    const traffic = new Traffic(book, this.#ledger);
    for (const node of this.#cluster.nodes) traffic.addNode(node.id, node.address);
    this.#enter('three nodes', traffic);
    traffic.start();
    this.#traffic = traffic;
    this.#say(
      'Traffic runs through all nodes: reads, writes, full counts and long transactions, every answer checked.',
    );
    return traffic;
  }

  /** The fourth node's share comes by itself: nothing but its start is asked for. */
  async #scaleOut(traffic: Traffic): Promise<void> {
    this.#enter('scale out', traffic);
    const begin = performance.now();
    const before = new Set((await this.#cluster.admin({ do: 'op-ls', all: true })).map((o) => o.id));
    const node = await this.#cluster.addNode();
    traffic.addNode(node.id, node.address);
    this.#say(`Node ${node.id} joined at ${node.address}: its share of the data comes by itself.`);
    await this.#untilSpread(node, before);
    const status = must(
      (await this.#cluster.admin({ do: 'node-status' })).find((n) => n.id === node.id),
      'new node',
    );
    const what = `${status.replicas} replicas (${status.leaders} leaders), ${humanBytes(status.bytes)}`;
    this.#say(`The data has spread in ${seconds(performance.now() - begin)}: node ${node.id} holds ${what}.`);
  }

  async #untilSpread(node: LocalNode, before: ReadonlySet<number>): Promise<void> {
    const until = performance.now() + SPREAD_MS;
    const news = this.#everyNewsMs();
    for (;;) {
      const operations = (await this.#cluster.admin({ do: 'op-ls', all: true })).filter((o) => !before.has(o.id));
      const failed = operations.find((o) => o.status === 'failed');
      if (failed) {
        throw tideError('INTERNAL', { why: `${failed.kind} ${failed.subject} failed: ${failed.error?.message ?? ''}` });
      }
      const ended = operations.length > 0 && operations.every((o) => o.endedAt !== null);
      if (ended && (await this.#isBalanced(node))) return;
      news(
        () => `${operations.filter((o) => o.endedAt !== null).length} of ${operations.length} operations have ended`,
      );
      if (performance.now() > until) {
        throw tideError('INTERNAL', { why: `the data has not spread to node ${node.id} within ${SPREAD_MS / 1000} s` });
      }
      await sleep(300);
    }
  }

  async #isBalanced(node: LocalNode): Promise<boolean> {
    const [nodes, plan] = await Promise.all([
      this.#cluster.admin({ do: 'node-status' }),
      this.#cluster.admin({ do: 'plan', rebalance: true }),
    ]);
    return plan.moves.length === 0 && nodes.some((n) => n.id === node.id && n.replicas > 0);
  }

  /** The node that hurts most: not the manager's, and with the most leaders. */
  async #scaleIn(traffic: Traffic): Promise<void> {
    this.#enter('scale in', traffic);
    const begin = performance.now();
    const first = new Set(this.#cluster.nodes.slice(0, 3).map((n) => n.id));
    const candidates = (await this.#cluster.admin({ do: 'node-status' })).filter(
      (n) => first.has(n.id) && !n.isManager,
    );
    const victim = must(candidates.sort((a, b) => b.leaders - a.leaders || a.id - b.id)[0], 'node to decommission');
    this.#say(
      `Decommissioning node ${victim.id}, which leads ${victim.leaders} partitions and follows ${victim.replicas - victim.leaders}.`,
    );
    const started = await this.#cluster.admin({ do: 'node-decommission', nodes: [victim.id] });
    const news = this.#everyNewsMs();
    await this.#cluster.waitForOperation(must(started.operation, 'operation'), (o) =>
      news(() => `${Math.floor(o.percent)} %, ${humanBytes(o.bytesDone)} of ${humanBytes(o.bytesTotal)}`),
    );
    const empty = must(
      (await this.#cluster.admin({ do: 'node-status' })).find((n) => n.id === victim.id),
      'victim',
    );
    if (empty.replicas > 0)
      throw tideError('INTERNAL', { why: `node ${victim.id} still holds ${empty.replicas} replicas` });
    await traffic.removeNode(victim.id);
    await this.#cluster.node(victim.id).quit();
    this.#say(`Node ${victim.id} is empty and stopped after ${seconds(performance.now() - begin)}.`);
  }

  async #hold(phase: string): Promise<void> {
    if (this.#phase !== phase) this.#enter(phase, must(this.#traffic, 'traffic'));
    const holdMs = ((this.#options.seconds ?? DEFAULT_SECONDS) * 1000) / HOLDS;
    await sleep(holdMs, undefined, { signal: this.#interrupted });
  }

  async #prove(book: CityBook, { stats }: Traffic): Promise<{ report: DemoReport; all: Verdict[] }> {
    this.#say('Traffic has ended. Comparing everything with everything.');
    const cluster = this.#cluster;
    const nodes = cluster.nodes.filter((n) => n.isRunning);
    const proof = await prove({
      book,
      ledger: this.#ledger,
      nodes: nodes.map(({ id }) => ({ id, sql: cluster.sql(id), postgres: cluster.manager(id) })),
      partitions: () => cluster.admin({ do: 'partition-ls' }),
      doctor: () => cluster.admin({ do: 'doctor' }, { timeoutMs: 60_000 }),
    });
    const operations = await this.#allOperations();
    const live = (await cluster.admin({ do: 'node-status' })).filter((n) => n.isAvailable);
    const report: DemoReport = {
      cities: book.count,
      statements: stats.statements,
      failed: stats.failed,
      incompleteReads: stats.incompleteReads,
      acknowledged: this.#ledger.acknowledged,
      lost: proof.lost,
      pauseMs: pauseSummary(operations),
      bytesMoved: movedBytes(operations),
      bytesMinimal: minimalBytes(operations),
      seconds: Math.round((performance.now() - this.#beginMs) / 100) / 10,
      replicasDiffer: proof.replicasDiffer,
      nodesAtEnd: live.length,
    };
    return { report, all: verdicts(report, proof, stats, 3) };
  }

  async #allOperations(): Promise<OperationResult[]> {
    const rows = await this.#cluster.admin({ do: 'op-ls', all: true });
    const operations: OperationResult[] = [];
    for (const { id } of rows) operations.push(await this.#cluster.admin({ do: 'op-show', id }));
    return operations;
  }

  #sayResult(report: DemoReport, all: readonly Verdict[], p99Ms: number): void {
    const { pauseMs, bytesMoved, bytesMinimal } = report;
    const figures = [
      `pauses of a partition's writers: p50 ${pauseMs.p50.toFixed(0)} ms, p99 ${pauseMs.p99.toFixed(0)} ms, longest ${pauseMs.max.toFixed(0)} ms`,
      `moved ${humanBytes(bytesMoved)}, the least possible is ${humanBytes(bytesMinimal)}`,
      `statements' p99 ${p99Ms.toFixed(0)} ms; ${report.seconds} s in all`,
    ];
    const proven = all.flatMap((v) => [
      `${v.holds ? '✓' : '✗'} ${v.text}`,
      ...(v.holds ? [] : v.details.map((d) => `    ${d}`)),
    ]);
    this.#say(['The proof:', ...proven, ...figures.map((f) => `  ${f}`)].join('\n'));
    this.#say(all.every((v) => v.holds) ? 'Everything holds.' : 'Not everything holds: see the lines with ✗.');
  }

  #firstNode(): LocalNode {
    return must(this.#cluster.nodes[0], 'first node');
  }

  #enter(phase: string, traffic: Traffic): void {
    this.#phase = phase;
    traffic.stats.beginPhase(phase, traffic.nodes);
  }

  #say(text: string): void {
    this.#terminal.say(text);
  }

  /** Off a terminal, where no picture moves: a sentence now and then instead of silence. */
  #everyNewsMs(): (text: () => string) => void {
    let last = performance.now();
    return (text) => {
      if (this.#terminal.isLive || performance.now() - last < NEWS_MS) return;
      last = performance.now();
      this.#say(`… ${text()}${this.#trafficText()}`);
    };
  }

  #trafficText(): string {
    const stats = this.#traffic?.stats;
    return stats ? `; ${count(stats.statements)} statements, ${count(stats.failed)} failed` : '';
  }

  #draw(seen: Seen): void {
    const stats = this.#traffic?.stats;
    const traffic = stats && {
      perSecond: stats.perSecond(performance.now()),
      statements: stats.statements,
      failed: stats.failed,
      incompleteReads: stats.incompleteReads,
      acknowledged: this.#ledger.acknowledged,
      p99Ms: stats.latency.percentileMs(0.99),
    };
    const view = {
      ...seen,
      phase: this.#phase,
      elapsedMs: performance.now() - this.#beginMs,
      traffic: traffic ?? null,
    };
    this.#terminal.draw(render(view, this.#terminal));
  }
}

function sayHowToConnect(cluster: LocalCluster, terminal: Terminal): void {
  const running = cluster.nodes.filter((n) => n.isRunning);
  const lines = running.map((n) => `node ${n.id}   psql postgresql://tide@${n.address}/tide`);
  const [first] = running;
  terminal.say(
    ['The cluster stays up until Ctrl-C:', ...lines, `         bin/tide node status --host=${first?.address}`].join(
      '\n',
    ),
  );
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
