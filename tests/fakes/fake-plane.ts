import { partitionTable, subscriptionName } from '../../src/catalog/names.ts';
import { tideError } from '../../src/core/errors.ts';
import type * as ports from '../../src/operations/ports.ts';
import { copySlotName, type FakeCluster } from './fake-cluster.ts';
import { FakeHinges } from './fake-hinges.ts';
import type { Effect } from './fake-server.ts';
import { FakeStreams } from './fake-streams.ts';

/**
 * The data plane on fake servers: the same calls made of the same statements, in the order of
 * postgres/data-plane.ts.
 */
export class FakePlane implements ports.DataPlane {
  readonly nodes: ports.Nodes;
  readonly parents: ports.Parents;
  readonly replicas: ports.Replicas;
  readonly hinges: FakeHinges;
  readonly streams: FakeStreams;
  readonly slots: ports.Slots;
  readonly markers: ports.Markers;
  readonly quorum: ports.NodeQuorum;
  readonly sessions: ports.Sessions;

  constructor(cluster: FakeCluster, effect: Effect) {
    this.nodes = nodesOf(cluster, effect);
    this.parents = parentsOf(cluster, effect);
    this.replicas = replicasOf(cluster, effect);
    this.markers = markersOf(cluster);
    this.hinges = new FakeHinges(cluster, effect, this.markers);
    this.streams = new FakeStreams(cluster, effect, this.markers);
    this.slots = slotsOf(cluster, effect);
    this.quorum = quorumOf(cluster, effect);
    this.sessions = sessionsOf(cluster, effect);
  }
}

const nameOf = ({ tid, pid }: ports.PartitionRef) => partitionTable(tid, pid);

function nodesOf(cluster: FakeCluster, effect: Effect): ports.Nodes {
  return {
    bootstrap: async (node) => {
      const server = cluster.on(node);
      if (server.bootstrapped) return;
      await effect(`n${node}: bootstrap`, () => {
        server.bootstrapped = true;
      });
    },
    useOwnRoles: async () => {},
    weakenClients: async () => 'already',
    localData: async (node) => cluster.on(node).localData,
  };
}

function parentsOf(cluster: FakeCluster, effect: Effect): ports.Parents {
  const parents: ports.Parents = {
    create: async (node, table) => {
      if (await parents.exists(node, table)) return;
      await effect(`n${node}: create parent ${table.name}`, () => cluster.createParent(node, table));
    },
    exists: async (node, table) => cluster.on(node).parents.has(table.tid),
    drop: async (node, table) => {
      if (!(await parents.exists(node, table))) return;
      await effect(`n${node}: drop parent ${table.name}`, () => cluster.dropParent(node, table.tid));
    },
  };
  return parents;
}

function replicasOf(cluster: FakeCluster, effect: Effect): ports.Replicas {
  return {
    create: async (node, table, pid) => {
      const { replicas } = cluster.on(node);
      const name = partitionTable(table.tid, pid);
      if (replicas.has(name)) return;
      await effect(`n${node}: create ${name}`, () => replicas.set(name, { guarded: true, rows: new Set(), last: 0 }));
    },
    exists: async (node, ref) => cluster.on(node).replicas.has(nameOf(ref)),
    drop: async (node, ref) => {
      const server = cluster.on(node);
      const name = nameOf(ref);
      if (server.hinges.get(name)?.kind === 'local') throw tideError('REPLICA_IN_USE', { replica: name, node });
      if (!server.replicas.has(name)) return;
      await effect(`n${node}: drop ${name}`, () => cluster.dropReplica(node, name));
    },
    setGuard: async (node, ref, on) => {
      const name = nameOf(ref);
      await effect(`n${node}: guard of ${name} ${on ? 'on' : 'off'}`, () => cluster.setGuard(node, name, on));
    },
    bytes: async (node, ref) => 8192 * (cluster.on(node).replicas.get(nameOf(ref))?.rows.size ?? 0),
    list: async (node) =>
      [...cluster.on(node).replicas.keys()].map((name) => {
        const [tid, pid] = name.slice(1).split('_p');
        return { tid: Number(tid), pid: Number(pid) };
      }),
  };
}

function slotsOf(cluster: FakeCluster, effect: Effect): ports.Slots {
  return {
    ofCopy: async (_from, to, ref) => {
      cluster.on(to);
      return copySlotName(to, nameOf(ref));
    },
    keptWal: async (from) => cluster.on(from).keptBytes,
    drop: async (node, slot) => {
      const { slots, copySlots } = cluster.on(node);
      if (copySlots.has(slot)) await effect(`n${node}: drop slot ${slot}`, () => copySlots.delete(slot));
      for (const to of slots.keys()) {
        if (subscriptionName(node, to) === slot) await effect(`n${node}: drop slot of n${to}`, () => slots.delete(to));
      }
    },
  };
}

function markersOf(cluster: FakeCluster): ports.Markers {
  const { clock } = cluster;
  return {
    write: async (node) => {
      cluster.on(node);
      return String(cluster.writeMarker(node));
    },
    arrives: async (at, from, value, timeoutMs) => {
      const untilMs = clock.nowMs() + timeoutMs;
      for (let pauseMs = 2; ; pauseMs *= 2) {
        cluster.flow();
        if ((cluster.on(at).subscriptions.get(from)?.marker ?? 0) >= Number(value)) return true;
        if (clock.nowMs() >= untilMs) return false;
        await clock.sleep(Math.min(pauseMs, untilMs - clock.nowMs()));
      }
    },
  };
}

function quorumOf(cluster: FakeCluster, effect: Effect): ports.NodeQuorum {
  return {
    read: async (node) => cluster.on(node).quorum,
    set: async (node, quorum) => {
      const server = cluster.on(node);
      const nodes = quorum.nodes.map((n) => `n${n}`).join(', ');
      await effect(`n${node}: commits wait for ${quorum.count} of ${nodes || 'nobody'}`, () => {
        server.quorum = quorum;
      });
    },
    refusals: async (node) => new Map([...cluster.on(node).refused].map((name) => [name, 'on'])),
    refuseWrites: async (node, ref) => {
      const server = cluster.on(node);
      const name = nameOf(ref);
      if ((server.holders.get(name) ?? []).length > 0) throw new Error(`${name} is in use: lock timeout`);
      if (!server.replicas.has(name)) throw new Error(`relation tide_data.${name} does not exist on n${node}`);
      await effect(`n${node}: ${name} refuses writes`, () => server.refused.add(name));
    },
    takeWrites: async (node, ref) => {
      const server = cluster.on(node);
      await effect(`n${node}: ${nameOf(ref)} takes writes`, () => server.refused.delete(nameOf(ref)));
    },
  };
}

function sessionsOf(cluster: FakeCluster, effect: Effect): ports.Sessions {
  return {
    lockHolders: async (node, ref) => cluster.on(node).holders.get(nameOf(ref)) ?? [],
    endHolders: async (node, ref) => {
      const { holders } = cluster.on(node);
      if (holders.has(nameOf(ref)))
        await effect(`n${node}: end who holds ${nameOf(ref)}`, () => holders.delete(nameOf(ref)));
    },
    oldestWriter: async (node) => cluster.on(node).writer,
    snapshotMark: async (node) => {
      cluster.on(node);
      return String(cluster.clock.nowMs());
    },
    olderSnapshots: async (node, mark) => cluster.on(node).snapshots.filter((s) => s.sinceMs <= Number(mark)),
  };
}
