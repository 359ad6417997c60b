import type { NodeId } from '../../../src/catalog/model.ts';
import { subscriptionName } from '../../../src/catalog/names.ts';
import { tideError } from '../../../src/core/errors.ts';
import type { InspectedTable, Inspector, InventoryKind } from '../../../src/manager/ports.ts';
import type { DataPlane } from '../../../src/operations/ports.ts';
import { FakePlane } from '../../fakes/fake-plane.ts';
import type { Effect } from '../../fakes/fake-server.ts';
import type { ManagerProcess } from './manager-process.ts';
import type { SimWorld } from './world.ts';

/** Which nodes a call asks, by the place of the node among its arguments. */
const ASKED: { [Noun in keyof DataPlane]: Record<keyof DataPlane[Noun], readonly number[]> } = {
  nodes: { bootstrap: [0], useOwnRoles: [0], weakenClients: [0], localData: [0] },
  parents: { create: [0], exists: [0], drop: [0] },
  replicas: { create: [0], exists: [0], drop: [0], setGuard: [0], bytes: [0], list: [0] },
  hinges: {
    read: [0],
    readAll: [0],
    point: [0],
    swing: [0],
    createForward: [0],
    dropForward: [0],
    dropLooseForwards: [0],
    ensureForeignServer: [0],
    dropForeignServer: [0],
  },
  streams: {
    connect: [0, 1],
    disconnect: [0, 1],
    exists: [1],
    isWhole: [0, 1],
    published: [0],
    states: [0, 1],
    state: [0, 1],
    start: [0, 1],
    stop: [0, 1],
    stopSending: [0],
    cut: [1],
    resume: [0, 1],
    renew: [0, 1],
    dropSenders: [0],
  },
  slots: { ofCopy: [0, 1], keptWal: [0], drop: [0] },
  markers: { write: [0], arrives: [0] },
  quorum: { read: [0], set: [0], refusals: [0], refuseWrites: [0], takeWrites: [0] },
  sessions: { lockHolders: [0], endHolders: [0], oldestWriter: [0], snapshotMark: [0], olderSnapshots: [0] },
};
const NOUNS = Object.keys(ASKED) as (keyof DataPlane)[];
/** The node that is gone is not asked. */
const GONE = 2;

const QUEUES = new Set(
  ['connect', 'disconnect', 'start', 'stop', 'stopSending', 'resume', 'renew'].map((name) => `streams.${name}`),
);

const LOOK_MS = 250;
const STATEMENT_MS = 15_000;

export interface Wire {
  world: SimWorld;
  home: NodeId;
  process: ManagerProcess;
  /** What heartbeats say: a statement on a node that has fallen silent is given up. */
  reachable(node: NodeId): boolean;
}

/** The way from a manager to the servers: it takes time, is cut, and loses answers. */
export function planeThrough(wire: Wire): DataPlane {
  const plane = new FakePlane(wire.world.cluster, effectThrough(wire));
  return eachNoun(plane, (noun) => callsThrough(wire, noun, plane[noun]));
}

/** A plane whose nouns are those of another, each made into something else. */
export function eachNoun(plane: DataPlane, make: (noun: keyof DataPlane) => object): DataPlane {
  return { ...plane, ...Object.fromEntries(NOUNS.map((noun) => [noun, make(noun)])) };
}

type Call = (...args: unknown[]) => Promise<unknown>;

function callsThrough<Noun extends keyof DataPlane>(wire: Wire, noun: Noun, calls: DataPlane[Noun]): DataPlane[Noun] {
  return new Proxy(calls, {
    get: (target, name: keyof DataPlane[Noun] & string) => {
      const places = ASKED[noun][name];
      const called = `${noun}.${name}`;
      return async (...args: unknown[]) => {
        const asked = places.filter((place) => called !== 'streams.disconnect' || args[place] !== args[GONE]);
        const nodes = asked.map((place) => args[place] as NodeId);
        const call = () => (target[name] as Call).apply(target, args);
        // Whoever works on a stream queues for it at the moment of the call; what it changes there is reached
        // by itself.
        const begun = QUEUES.has(called) ? call() : null;
        begun?.catch(() => {});
        for (const node of nodes) await reach(wire, node);
        const result = await (begun ?? call());
        if (called === 'streams.renew' && result === true) wire.world.count('streams renewed');
        for (const node of nodes) await answer(wire, node);
        return result;
      };
    },
  });
}

/** Every change of a server takes a moment; faults that wait for one strike before or after it. */
function effectThrough(wire: Wire): Effect {
  const { world, process } = wire;
  return async (label, change) => {
    const node = Number(/^n(\d+)/.exec(label)?.[1] ?? 0);
    await reach(wire, node);
    await world.clock.sleep(world.random.int(1, 4));
    await process.turn();
    const strikes = world.strikes(node);
    strikes.before();
    await reach(wire, node);
    world.cluster.on(node);
    change();
    world.changed(label);
    strikes.after();
    await process.turn();
    if (strikes.losesAnswer) throw tideError('NODE_UNREACHABLE', { node, why: 'connection reset' });
    await answer(wire, node);
  };
}

/** Comes back when the server has the question; throws NODE_UNREACHABLE where the wait for it is given up. */
async function reach(wire: Wire, node: NodeId): Promise<void> {
  const { world, home, process } = wire;
  await process.turn();
  const machine = world.machine(node);
  if (machine.slowMs > 0) {
    await world.clock.sleep(machine.slowMs);
    await process.turn();
  }
  await until(wire, node, () => machine.powered && !machine.server.frozen && world.network.passes(home, node));
}

/** Comes back when its answer has arrived. */
async function answer(wire: Wire, node: NodeId): Promise<void> {
  await until(wire, node, () => wire.world.network.passes(node, wire.home));
}

/** A wait that is given up when the node has fallen silent, or the statement has had its time. */
async function until(wire: Wire, node: NodeId, reached: () => boolean): Promise<void> {
  const { world, process } = wire;
  for (let waitedMs = 0; !reached(); waitedMs += LOOK_MS) {
    if (waitedMs >= STATEMENT_MS || !wire.reachable(node))
      throw tideError('NODE_UNREACHABLE', { node, why: 'no answer' });
    await world.clock.sleep(LOOK_MS);
    await process.turn();
  }
}

const KNOCK_MS = 500;
const ROW_BYTES = 100;

/** What the manager reads from the servers. */
export class SimInspector implements Inspector {
  readonly #wire: Wire;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  async #server(node: NodeId) {
    await reach(this.#wire, node);
    return this.#wire.world.cluster.on(node);
  }

  async sizes(node: NodeId) {
    const { replicas } = await this.#server(node);
    return [...replicas].map(([name, { rows }]) => {
      const [tid, pid] = name.slice(1).split('_p');
      return { tid: Number(tid), pid: Number(pid), rows: rows.size, bytes: 8192 * (1 + rows.size), isExact: true };
    });
  }

  async lag(node: NodeId) {
    await this.#server(node);
    return new Map<string, { replayLsn: string; lagBytes: number }>();
  }

  async slots(node: NodeId) {
    const { slots } = await this.#server(node);
    return new Map(
      [...slots].map(([to, unsent]) => {
        const bytes = ROW_BYTES * unsent.length;
        return [subscriptionName(node, to), { keptBytes: bytes, behindBytes: bytes, isLost: false }];
      }),
    );
  }

  async received(node: NodeId) {
    await this.#server(node);
    const { subscriptions } = this.#wire.world.cluster.at(node);
    const enabled = [...subscriptions].filter(([, s]) => s.enabled);
    return new Map(
      enabled.map(([from, { stalled }]) => [subscriptionName(from, node), { runs: !stalled, failures: 0 }]),
    );
  }

  async nameTaken(node: NodeId): Promise<null> {
    await this.#server(node);
    return null;
  }

  async inspectTable(node: NodeId, sql: string): Promise<InspectedTable> {
    await this.#server(node);
    const definition = {
      columns: [{ name: 'id', type: 'bigint', notNull: true, default: null }],
      primaryKey: ['id'],
      checks: [],
      indexes: [],
    };
    return { schema: 'public', name: /create table (\w+)/i.exec(sql)?.[1] ?? '', distributeBy: 'id', definition };
  }

  async inventory(node: NodeId) {
    await this.#server(node);
    return this.#wire.world.cluster.inventory(node);
  }

  async localData(node: NodeId) {
    return (await this.#server(node)).localData;
  }

  async knock(node: NodeId): Promise<'accepts' | 'refused' | 'silent'> {
    const { world, home, process } = this.#wire;
    await process.turn();
    const machine = world.machine(node);
    if (machine.powered && world.network.linked(home, node)) return machine.server.alive ? 'accepts' : 'refused';
    await world.clock.sleep(KNOCK_MS);
    await process.turn();
    return 'silent';
  }

  async remove(node: NodeId, kind: InventoryKind, name: string): Promise<void> {
    await this.#server(node);
    this.#wire.world.cluster.removeObject(node, kind, name);
  }
}
