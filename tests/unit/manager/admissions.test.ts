import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { WhoAmI } from '../../../src/api/membership.ts';
import { TideError } from '../../../src/core/errors.ts';
import { Admissions } from '../../../src/manager/admissions.ts';
import { CatalogStore } from '../../../src/manager/catalog-store.ts';
import type { Condition } from '../../../src/manager/outage-watch.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { nodeRecord } from '../../fakes/records.ts';

const NODE = 2;
const HOME = `${nodeRecord(NODE).address}`;
const ELSEWHERE = 'elsewhere:26257';

/** What a manager of cluster `test` sees of node 2, all of it made by hand. */
class Desk {
  nowMs = 1_000_000;
  /** When node 2 last beat. */
  beatAt: number | null = null;
  condition: Condition = 'silent';
  lease: 'held' | 'gone' | 'none' = 'none';
  /** The start that answers at each address; null: one that does not say. */
  readonly answers = new Map<string, string | null>();
  readonly events: string[] = [];
  readonly admissions: Admissions;

  readonly catalog: CatalogStore;

  constructor(catalog: CatalogStore, own: string | null) {
    this.catalog = catalog;
    this.admissions = new Admissions({
      clock: { nowMs: () => this.nowMs, sleep: async () => {} },
      view: () => catalog.view,
      commit: (changes) => catalog.commit(changes),
      load: { beatAt: () => this.beatAt },
      condition: () => this.condition,
      leaseOf: async () => this.lease,
      whoIs: async (address) => {
        const start = this.answers.get(address);
        if (start === undefined) return null;
        return { nodeId: NODE, clusterId: 'test', ...(start === null ? {} : { start }) } as WhoAmI;
      },
      own: own === null ? null : { node: NODE, start: { id: own, after: ['a'], ended: [] } },
      overtaken: () => {},
      event: async ({ kind, text }) => void this.events.push(`${kind}: ${text}`),
    });
  }

  static async open(start: string | undefined, own: string | null = null): Promise<Desk> {
    const store = new MemoryStore();
    await CatalogStore.initialise(store, { clusterId: 'test', startMode: 'start' });
    const catalog = await CatalogStore.open(store);
    await catalog.commit([{ kind: 'node-added', node: nodeRecord(NODE) }]);
    if (start !== undefined) await catalog.commit([{ kind: 'node-changed', id: NODE, change: { start } }]);
    return new Desk(catalog, own);
  }

  get known(): string | undefined {
    return this.catalog.view.nodes.get(NODE)?.start;
  }

  /** `admitted`, or the code of what was thrown. */
  async ask(id: string, after: string[] | null, ended: string[] = [], address = HOME): Promise<string> {
    const request = { node: NODE, clusterId: 'test', address, start: { id, after, ended } };
    try {
      await this.admissions.admit(request);
      return 'admitted';
    } catch (error) {
      if (error instanceof TideError) return error.code;
      throw error;
    }
  }
}

test('a start that knows the one before to have ended is taken at once', async () => {
  const desk = await Desk.open('a');
  desk.beatAt = desk.nowMs;
  expect(await desk.ask('b', ['a'], ['a'])).toBe('admitted');
  expect(desk.known).toBe('b');
  expect(await desk.ask('b', ['a'], ['a'])).toBe('admitted');
});

test('a copy is refused while the node answers where it was, and told once', async () => {
  const desk = await Desk.open('a');
  desk.beatAt = desk.nowMs;
  desk.answers.set(HOME, 'a');
  for (let asked = 0; asked < 3; asked++) expect(await desk.ask('copy', ['a'], [], ELSEWHERE)).toBe('NODE_TWICE');
  expect(desk.known).toBe('a');
  expect(desk.events).toEqual([
    `node-twice: node 2 was started a second time, at ${ELSEWHERE}, from a copy of its store, and refused; the one at ${HOME} goes on`,
  ]);
  expect(desk.admissions.twinOf(NODE)).toEqual({ id: 'copy', address: ELSEWHERE });
  desk.nowMs += 3_600_000;
  expect(desk.admissions.twinOf(NODE)).toBeNull();
});

test('a copy is refused when the node has been started since, whether that is there or not', async () => {
  const desk = await Desk.open('b');
  expect(await desk.ask('copy', ['a'], ['a'])).toBe('NODE_OVERTAKEN');
  desk.answers.set(HOME, 'b');
  expect(await desk.ask('copy2', ['a'], ['a'], ELSEWHERE)).toBe('NODE_TWICE');
  desk.answers.set(HOME, 'copy3');
  expect(await desk.ask('copy3', ['a'], ['a'])).toBe('NODE_OVERTAKEN');
  expect(desk.known).toBe('b');
});

test('one that cannot know waits until the node is silent, and its own address leads to it', async () => {
  const desk = await Desk.open('a');
  desk.beatAt = desk.nowMs;
  desk.answers.set(HOME, 'b');
  expect(await desk.ask('b', ['a'])).toBe('NODE_MAY_RUN');
  desk.nowMs += 2_900;
  expect(await desk.ask('b', ['a'])).toBe('NODE_MAY_RUN');
  desk.nowMs += 200;
  expect(await desk.ask('b', ['a'])).toBe('admitted');
  expect(desk.events).toEqual([]);
});

test.each<[string, (desk: Desk) => unknown, string]>([
  ['nothing is known', () => {}, 'NODE_MAY_RUN'],
  ['it is proved to be down', (desk) => (desk.condition = 'down'), 'admitted'],
  ['its lease has run out', (desk) => (desk.lease = 'gone'), 'admitted'],
  ['its lease holds', (desk) => (desk.lease = 'held'), 'NODE_MAY_RUN'],
  ['others lead in its place', outage('manager'), 'admitted'],
  ['the operator has said so', outage('operator'), 'admitted'],
  [
    'it is out, and is heard',
    (desk) => outage('operator')(desk).then(() => (desk.beatAt = desk.nowMs)),
    'NODE_MAY_RUN',
  ],
])('on another machine, with the old one silent: %s', async (_what, make, outcome) => {
  const desk = await Desk.open('a');
  await make(desk);
  expect(await desk.ask('b', ['a'], [], ELSEWHERE)).toBe(outcome);
});

function outage(by: 'manager' | 'operator') {
  return ({ catalog }: Desk) =>
    catalog.commit([{ kind: 'node-changed', id: NODE, change: { outage: { by, sinceMs: 0 } } }]);
}

test('a node that was last started by version 0.1 is told from its twin by its voice', async () => {
  const desk = await Desk.open(undefined);
  expect(await desk.ask('first', null)).toBe('admitted');
  const older = await Desk.open(undefined);
  older.beatAt = older.nowMs;
  older.answers.set(HOME, null);
  expect(await older.ask('copy', null, [], ELSEWHERE)).toBe('NODE_TWICE');
  older.answers.delete(HOME);
  expect(await older.ask('b', null)).toBe('NODE_MAY_RUN');
  older.nowMs += 3_000;
  expect(await older.ask('b', null)).toBe('admitted');
});

test('the node that the manager runs in has been judged by its peers', async () => {
  const desk = await Desk.open('a', 'b');
  expect(await desk.ask('b', ['a'])).toBe('admitted');
  expect(await desk.ask('c', ['a'])).toBe('NODE_OVERTAKEN');
});

test('a node that has left hears that elsewhere', async () => {
  const desk = await Desk.open('a');
  await desk.catalog.commit([{ kind: 'node-changed', id: NODE, change: { state: 'decommissioned' } }]);
  expect(await desk.ask('b', ['a'])).toBe('admitted');
  expect(desk.known).toBe('a');
});

/**
 * Random stories of one node: its store is copied, copies are started, killed, ended and asked for again, on
 * machines of their own. What a start says is what its store would say (`src/node/starts.ts`).
 */
test('no two starts are ever the node at once, none follows on one it does not know, and with one store alone none is refused', async () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant('start' as const), of: fc.nat() }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('ask' as const), of: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('kill' as const), of: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('end' as const), of: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('copy' as const), of: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), of: fc.nat(4_000) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), fc.boolean(), async (steps, mayCopy) => {
      const story = new Story(await Desk.open(undefined));
      for (const { do: what, of } of steps) {
        if (what === 'copy' && !mayCopy) continue;
        await story.step(what, of);
        expect(story.serving().length).toBeLessThanOrEqual(1);
        expect(story.forgotten).toEqual([]);
        if (!mayCopy) expect(story.refused).toEqual([]);
      }
    }),
    { numRuns: 300 },
  );
});

interface Store {
  address: string;
  starts: { id: string; place: string; ended: boolean }[];
  running: { id: string; after: string[]; ended: string[]; admitted: boolean } | null;
}

class Story {
  readonly #desk: Desk;
  readonly #stores: Store[] = [{ address: HOME, starts: [], running: null }];
  readonly refused: string[] = [];
  /** Starts that became the node although their store had not seen the one before. */
  readonly forgotten: string[] = [];
  #ids = 0;

  constructor(desk: Desk) {
    this.#desk = desk;
  }

  /** Starts whose PostgreSQL would let somebody in: they were admitted, and their beats are the node's. */
  serving(): Store[] {
    return this.#stores.filter((s) => s.running?.admitted);
  }

  async step(what: 'start' | 'ask' | 'kill' | 'end' | 'copy' | 'wait', of: number): Promise<void> {
    const store = this.#stores[of % this.#stores.length] as Store;
    if (what === 'wait') this.#desk.nowMs += of;
    if (what === 'copy' && this.#stores.length < 5)
      this.#stores.push({ ...structuredClone(store), address: `copy${this.#stores.length}:26257`, running: null });
    if (what === 'start') this.#start(store);
    if (what === 'ask') await this.#ask(store);
    if (what === 'kill' || what === 'end') this.#stop(store, what === 'end');
    this.#beat();
  }

  #start(store: Store): void {
    if (store.running) return;
    const id = `s${++this.#ids}`;
    const ended = store.starts.filter((s) => s.ended || s.place === store.address).map((s) => s.id);
    store.running = { id, after: store.starts.map((s) => s.id), ended, admitted: false };
    store.starts.push({ id, place: store.address, ended: false });
    this.#desk.answers.set(store.address, id);
  }

  async #ask(store: Store): Promise<void> {
    const { running } = store;
    if (!running || running.admitted) return;
    // Whatever is not there is proved to be down after a while, as by the outage watch.
    this.#desk.condition = this.#desk.nowMs - (this.#desk.beatAt ?? 0) > 2_000 ? 'down' : 'silent';
    const before = this.#desk.known;
    const answer = await this.#desk.ask(running.id, running.after, running.ended, store.address);
    if (answer === 'admitted') {
      running.admitted = true;
      if (before !== undefined && !running.after.includes(before)) this.forgotten.push(running.id);
      await this.#desk.catalog.commit([{ kind: 'node-changed', id: NODE, change: { address: store.address } }]);
    } else if (answer !== 'NODE_MAY_RUN') {
      this.refused.push(answer);
      this.#stop(store, true);
    }
  }

  #stop(store: Store, inOrder: boolean): void {
    if (!store.running) return;
    const last = store.starts.at(-1);
    if (inOrder && last) last.ended = true;
    store.running = null;
    this.#desk.answers.delete(store.address);
  }

  /** Whoever is the node beats all the time; another start's beats are not taken. */
  #beat(): void {
    if (this.serving().some((s) => s.running?.id === this.#desk.known)) this.#desk.beatAt = this.#desk.nowMs;
  }
}
