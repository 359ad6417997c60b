import { createHash } from 'node:crypto';
import type { OperationRow } from '../../../src/api/results.ts';
import type { NodeId } from '../../../src/catalog/model.ts';
import { partitionTable } from '../../../src/catalog/names.ts';
import { CatalogStore } from '../../../src/manager/catalog-store.ts';
import { hasEnded } from '../../../src/operations/machine.ts';
import type { Write } from '../../../src/store/meta-store.ts';
import { FakePlane } from '../../fakes/fake-plane.ts';
import { Random } from '../../fakes/random.ts';
import { nodeRecord, tableRecord } from '../../fakes/records.ts';
import { Clients } from './clients.ts';
import { Faults } from './faults.ts';
import { factsOf, Nodes } from './nodes.ts';
import { Operator } from './operator.ts';
import { Rest } from './rest.ts';
import { Rules } from './rules.ts';
import type { Script, SimEvent } from './script.ts';
import { SimWorld } from './world.ts';

export interface Outcome {
  /** The first is what the run ended with; empty: all rules held. */
  readonly problems: readonly string[];
  readonly trace: readonly string[];
  readonly counts: ReadonlyMap<string, number>;
  /** Of everything that was said: the same for the same script. */
  readonly hash: string;
}

const WRITE_MS = 400;
const LOOK_MS = 5_000;
/**
 * An operation may be at a step this long without saying what it waits for: an answer that does not come is
 * told of sooner.
 */
const SILENT_MS = 15_000;

/** Plays a script from its beginning to rest. */
export async function simulate(script: Script, sabotage: (world: SimWorld) => void = () => {}): Promise<Outcome> {
  const world = new SimWorld(new Random(script.seed));
  const clients = new Clients(world);
  const nodes = new Nodes(world);
  const operator = new Operator(world, nodes);
  const faults = new Faults(world, nodes);
  watch(world, clients);
  sabotage(world);
  await world.clock.during(begin(world, script));
  world.beside(world.startManager());
  for (const machine of world.machines.values()) nodes.start(machine);
  world.beside(clients.run(WRITE_MS));
  world.beside(looking(world));

  let over = false;
  world.beside(
    (async () => {
      const beganMs = world.clock.nowMs();
      for (const event of script.events) {
        await world.clock.sleep(Math.max(1, beganMs + event.atMs - world.clock.nowMs()));
        world.count('events');
        if (event.what.startsWith('crash')) await writeBefore(event, world, clients);
        if (!faults.strike(event)) operator.act(event);
        clients.look();
      }
      await new Rest(world, clients, operator, nodes).reach(faults);
      over = true;
    })(),
  );
  await drive(world, clients, () => over);
  const hash = createHash('sha256')
    .update([...world.trace, ...[...world.counts].map(String)].join('\n'))
    .digest('hex');
  return { problems: world.problems, trace: world.trace, counts: world.counts, hash };
}

/** What crashes has something under way: one follower may have it, and another not yet. */
async function writeBefore({ c }: SimEvent, world: SimWorld, clients: Clients): Promise<void> {
  clients.write();
  await world.clock.sleep(1 + Math.round(c * 50));
}

/** Lets time go on, from one moment at which somebody has something to do to the next. */
async function drive(world: SimWorld, clients: Clients, over: () => boolean): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setImmediate(resolve));
    for (const problem of world.cluster.problems) world.problem(problem);
    if (over() || world.problems.length > 0) break;
    world.count('turns');
    if (!world.clock.advance()) {
      world.problem('nothing goes on');
      break;
    }
    world.cluster.flow();
    clients.hear();
  }
  world.count('simulated seconds', Math.round(world.nowMs / 1_000));
}

function watch(world: SimWorld, clients: Clients): void {
  const rules = new Rules(world);
  world.onChange = () => clients.look();
  world.onWrite = (write: Write) => {
    rules.judge(write);
    if (!('put' in write)) {
      const [, tid] = /^\/catalog\/table\/(\d+)$/.exec(write.delete) ?? [];
      if (tid !== undefined) clients.forget(Number(tid));
    } else if (write.put === '/catalog/settings') clients.settingsChanged();
  };
}

/**
 * Every operation that does not get on says why. What nobody manages says nothing: with a new manager its
 * time begins anew.
 */
async function looking(world: SimWorld): Promise<void> {
  const silentSinceMs = new Map<string, number>();
  let { manager } = world;
  for (;;) {
    await world.clock.sleep(LOOK_MS);
    if (world.manager !== manager) silentSinceMs.clear();
    manager = world.manager;
    // A manager that is killed answers nobody: the next look is another one's.
    world.beside(lookAtWaits(world, silentSinceMs));
  }
}

async function lookAtWaits(world: SimWorld, silentSinceMs: Map<string, number>): Promise<void> {
  const rows = ((await world.manager?.run({ do: 'op-ls', all: false })) ?? []) as OperationRow[];
  for (const row of rows.filter((r) => !hasEnded(r))) {
    const key = `${row.id} ${row.step} ${row.status}`;
    const sinceMs = silentSinceMs.get(key);
    if (row.waitsFor !== null) silentSinceMs.delete(key);
    else if (sinceMs === undefined) silentSinceMs.set(key, world.clock.nowMs());
    else if (world.clock.nowMs() - sinceMs > SILENT_MS)
      world.problem(`operation ${row.id} is ${row.status} at ${row.step} and does not say what it waits for`);
  }
}

/** A settled cluster: what join-node and create-table make, without the time they take. */
async function begin(world: SimWorld, script: Script): Promise<void> {
  const ids = Array.from({ length: script.nodes }, (_, i) => i + 1);
  const store = {
    isFull: false,
    get: (key: string) => world.store.get(key),
    range: (prefix: string) => world.store.range(prefix),
    close: async () => {},
    txn: async (request: Parameters<typeof world.store.txn>[0]) => {
      const result = await world.store.txn(request);
      for (const write of request.write) world.take(write);
      return result;
    },
  };
  await CatalogStore.initialise(store, { clusterId: 'sim', startMode: 'start', minNodes: 2 });
  const catalog = await CatalogStore.open(store);
  for (const id of ids) world.addMachine(id);
  for (const id of ids) {
    await catalog.nextId('node');
    await catalog.commit([{ kind: 'node-added', node: { ...nodeRecord(id), ...factsOf(id) } }]);
  }
  await catalog.commit([{ kind: 'setting-changed', key: 'node.dead_after', value: 20 }]);
  const replicas = Math.min(script.replicas, script.nodes);
  const placement = Array.from({ length: script.partitions }, (_, pid) =>
    Array.from({ length: replicas }, (_, r) => ids[(pid + r) % ids.length] as NodeId),
  );
  const tid = await catalog.nextId('table');
  const table = tableRecord(tid, 'acct', replicas, placement);
  const plane = new FakePlane(world.cluster, async (_label, change) => change());
  for (const id of ids) {
    await plane.nodes.bootstrap(id);
    for (const other of ids) if (other !== id) await plane.hinges.ensureForeignServer(id, other);
  }
  for (const partition of table.partitions) {
    for (const a of partition.replicas) await plane.replicas.create(a.node, table, partition.pid);
    for (const a of partition.replicas) {
      for (const b of partition.replicas.filter((r) => r.node !== a.node)) {
        await plane.streams.connect(a.node, b.node, () => false);
        await plane.streams.start(a.node, b.node, [partition], false);
      }
    }
  }
  for (const id of ids) await plane.parents.create(id, table);
  await catalog.commit([{ kind: 'table-added', table: { ...table, state: 'ready' } }]);
  world.say(
    `${ids.length} nodes; ${table.partitions.map((p) => partitionTable(tid, p.pid)).join(', ')} on ${replicas} each`,
  );
}
