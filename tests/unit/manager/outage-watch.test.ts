import { expect, test } from 'vitest';
import type { ClusterView, Outage, Settings, SettingValue } from '../../../src/catalog/model.ts';
import { CatalogStore } from '../../../src/manager/catalog-store.ts';
import { ClusterLoad } from '../../../src/manager/cluster-load.ts';
import type { Measurements } from '../../../src/manager/measurements.ts';
import { OutageWatch, type OutageWatchPorts } from '../../../src/manager/outage-watch.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { nodeRecord } from '../../fakes/records.ts';
import { HEALTHY } from './support/beats.ts';

const WATCH_MS = 150;
const VICTIM = 2;

/**
 * An outage watch over three nodes, with the servers' answers and the beats made by hand; it notes what it
 * decides.
 */
class Watch {
  readonly clock = new ManualClock();
  readonly decided: { kind: string; atMs: number }[] = [];
  /** Kinds of the events that were told. */
  readonly told: string[] = [];
  knock: 'accepts' | 'refused' = 'accepts';
  lease: 'held' | 'gone' | 'none' = 'none';
  readonly #catalog: CatalogStore;
  readonly #load: ClusterLoad;
  readonly #watch: OutageWatch;

  private constructor(catalog: CatalogStore) {
    this.#catalog = catalog;
    const inspector = { knock: async () => this.knock } as unknown as OutageWatchPorts['inspector'];
    this.#load = new ClusterLoad(
      this.clock,
      {} as Measurements,
      (node) => this.view.nodes.get(node)?.outage !== undefined,
    );
    const runner = {
      unended: () => [],
      holderOf: () => undefined,
      submit: async (kind: string) => void this.decided.push({ kind, atMs: this.clock.nowMs() }),
    } as unknown as OutageWatchPorts['runner'];
    this.#watch = new OutageWatch({
      clock: this.clock,
      runner,
      load: this.#load,
      inspector,
      view: () => this.view,
      leaseOf: async () => this.lease,
      event: async ({ kind }) => void this.told.push(kind),
    });
  }

  static async open(): Promise<Watch> {
    const store = new MemoryStore();
    await CatalogStore.initialise(store, { clusterId: 'test', startMode: 'start' });
    const catalog = await CatalogStore.open(store);
    await catalog.commit([1, VICTIM, 3].map((id) => ({ kind: 'node-added', node: nodeRecord(id) })));
    return new Watch(catalog);
  }

  get view(): ClusterView {
    return this.#catalog.view;
  }

  begin(): Promise<void> {
    return this.#watch.begin();
  }

  beat(fenced = false): void {
    this.#load.beat({ ...HEALTHY, node: VICTIM, fenced });
  }

  async set(key: keyof Settings, value: SettingValue): Promise<void> {
    await this.#catalog.commit([{ kind: 'setting-changed', key, value }]);
  }

  async putOut(outage: Outage | undefined): Promise<void> {
    await this.#catalog.commit([{ kind: 'node-changed', id: VICTIM, change: { outage } }]);
  }

  /** Rounds for so long, without a beat of the node. */
  async watch(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += WATCH_MS) {
      // The others are well.
      for (const node of [1, 3]) this.#load.beat({ ...HEALTHY, node });
      await this.#watch.round();
      const slept = this.clock.sleep(WATCH_MS);
      this.clock.advance();
      await slept;
    }
  }
}

test('a node that falls silent and refuses is failed over long before its silence alone would tell', async () => {
  const watch = await Watch.open();
  watch.beat();
  const beatAtMs = watch.clock.nowMs();
  watch.knock = 'refused';
  await watch.watch(800);
  expect(watch.decided).toEqual([]);
  await watch.watch(1_200);
  expect(watch.decided[0]).toMatchObject({ kind: 'failover' });
  expect((watch.decided[0]?.atMs ?? 0) - beatAtMs).toBeLessThanOrEqual(1_800);
});

test('a node whose port accepts is not failed over, however long it is silent', async () => {
  const watch = await Watch.open();
  watch.beat();
  await watch.watch(60_000);
  expect(watch.decided).toEqual([]);
});

test('a node that was taken back is not failed over again for its death before', async () => {
  const watch = await Watch.open();
  watch.beat();
  watch.knock = 'refused';
  await watch.watch(2_400);
  expect(watch.decided.length).toBeGreaterThan(0);
  await watch.putOut({ by: 'manager', sinceMs: watch.clock.nowMs() });
  watch.knock = 'accepts';
  watch.beat(true);
  await watch.watch(WATCH_MS);
  watch.decided.length = 0;
  // Taken back, and its fence comes down at its next beat only.
  await watch.putOut(undefined);
  await watch.watch(WATCH_MS * 3);
  expect(watch.decided).toEqual([]);
});

test('a node whose lease runs out while a new manager hears the others out is failed over at once', async () => {
  const watch = await Watch.open();
  watch.lease = 'held';
  await watch.begin();
  watch.lease = 'gone';
  await watch.watch(2_000);
  expect(watch.decided[0]).toMatchObject({ kind: 'failover' });
});

test('a node that had no lease when the manager began, and was never heard, is given time to start', async () => {
  const watch = await Watch.open();
  watch.lease = 'gone';
  await watch.begin();
  await watch.watch(15_000);
  expect(watch.decided).toEqual([]);
});

test('with auto_failover off nobody is failed over, and that the node is down is said once', async () => {
  const watch = await Watch.open();
  await watch.set('auto_failover', false);
  watch.beat();
  watch.knock = 'refused';
  await watch.watch(60_000);
  expect(watch.decided).toEqual([]);
  expect(watch.told).toEqual(['node-down']);
  // It was there again: that it is down once more is news.
  watch.beat();
  await watch.watch(10_000);
  expect(watch.told).toEqual(['node-down', 'node-down']);
  await watch.set('auto_failover', true);
  await watch.watch(WATCH_MS);
  expect(watch.decided).toMatchObject([{ kind: 'failover' }]);
});

test('a node that has lost its lease is failed over though its port accepts: it lets nobody in', async () => {
  const watch = await Watch.open();
  watch.beat();
  watch.lease = 'held';
  await watch.watch(60_000);
  expect(watch.decided).toEqual([]);
  expect(watch.told).toEqual(['node-unproven']);
  watch.lease = 'gone';
  await watch.watch(2 * WATCH_MS);
  expect(watch.decided[0]).toMatchObject({ kind: 'failover' });
});

test('a lease that is gone tells nothing of a node that has not started yet, but of one that was seen to hold it', async () => {
  const starting = await Watch.open();
  starting.lease = 'gone';
  await starting.watch(15_000);
  expect(starting.decided).toEqual([]);
  // This manager is new, and has not heard a node that served under the one before.
  const there = await Watch.open();
  there.lease = 'held';
  await there.watch(3_000);
  there.lease = 'gone';
  await there.watch(2 * WATCH_MS);
  expect(there.decided[0]).toMatchObject({ kind: 'failover' });
});
