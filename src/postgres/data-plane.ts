import type { NodeId } from '../catalog/model.ts';
import { partitionTable, subscriptionName } from '../catalog/names.ts';
import type * as ports from '../operations/ports.ts';
import { alone } from './alone.ts';
import type { Address } from './connect.ts';
import { PostgresHinges } from './hinges.ts';
import { endHolders, lockHolders, olderSnapshots, oldestWriter, snapshotMark } from './sql/blockers.ts';
import { bootstrapDatabase, bootstrappedBy } from './sql/bootstrap.ts';
import type { NodeConnections } from './sql/client.ts';
import { guardSql } from './sql/hinge.ts';
import { readLocalData } from './sql/local-data.ts';
import { awaitMarker, writeMarker } from './sql/marker.ts';
import { inDatabase } from './sql/other-session.ts';
import { readQuorum, setQuorum } from './sql/quorum.ts';
import { readRefusals, refuseWrites, takeWrites } from './sql/refusal.ts';
import { createReplica, dropReplica, listReplicas, readBytes, replicaExists } from './sql/replica.ts';
import { dropSlot, keptWal, removeWal } from './sql/slots.ts';
import { tableSyncSlot } from './sql/subscription.ts';
import { createParent, dropParent, parentExists } from './sql/table.ts';
import { useOwnRoles, weakenClients } from './sql/weaken.ts';
import { PostgresStreams } from './streams.ts';

type AddressOf = (node: NodeId) => Address;

/** The data plane on real servers, reached where `addressOf` says. What they throw comes as it is. */
export function postgresDataPlane(connections: NodeConnections, addressOf: AddressOf): ports.DataPlane {
  const markers = markersOn(connections);
  return {
    nodes: nodesOn(connections, addressOf),
    parents: parentsOn(connections),
    replicas: replicasOn(connections),
    hinges: new PostgresHinges(connections, addressOf, markers),
    streams: new PostgresStreams(connections, addressOf, markers),
    slots: slotsOn(connections),
    markers,
    quorum: quorumOn(connections),
    sessions: sessionsOn(connections),
  };
}

function nodesOn(connections: NodeConnections, addressOf: AddressOf): ports.Nodes {
  return {
    bootstrap: async (node) => {
      // The node's own process, maybe of another version, has done so at its start.
      if ((await bootstrappedBy(connections.on(node))) === null) await bootstrapDatabase(connections.on(node));
    },
    useOwnRoles: (node) => useOwnRoles(connections.on(node)),
    weakenClients: (node) => connections.session(node, (sql) => weakenClients(sql, inDatabase(addressOf(node)))),
    localData: async (node) => readLocalData(node, addressOf(node)),
  };
}

function parentsOn(connections: NodeConnections): ports.Parents {
  return {
    create: (node, record) => createParent(connections.on(node), node, record),
    exists: (node, record) => parentExists(connections.on(node), record),
    drop: (node, record) => dropParent(connections.on(node), record),
  };
}

function replicasOn(connections: NodeConnections): ports.Replicas {
  return {
    create: (node, record, pid) => createReplica(connections.on(node), record, pid),
    exists: (node, { tid, pid }) => replicaExists(connections.on(node), tid, pid),
    drop: (node, { tid, pid }, others) => alone(connections, node, others, (sql) => dropReplica(sql, node, tid, pid)),
    setGuard: async (node, { tid, pid }, on, others) => {
      const set = `SET LOCAL lock_timeout = '2s'; ${guardSql(tid, pid, on)}`;
      await alone(connections, node, others, (sql) => sql.query(set));
    },
    bytes: (node, { tid, pid }) => connections.session(node, (sql) => readBytes(sql, tid, pid)),
    list: (node) => listReplicas(connections.on(node)),
  };
}

function slotsOn(connections: NodeConnections): ports.Slots {
  return {
    ofCopy: (from, to, { tid, pid }) => tableSyncSlot(connections.on(to), from, to, partitionTable(tid, pid)),
    keptWal: (from, to, copySlot) => keptWal(connections.on(from), subscriptionName(from, to), copySlot),
    drop: async (node, slot) => {
      await dropSlot(connections.on(node), slot);
      await removeWal(connections.on(node));
    },
  };
}

function markersOn(connections: NodeConnections): ports.Markers {
  return {
    write: (node) => writeMarker(connections.on(node), node),
    arrives: (at, from, value, timeoutMs) => awaitMarker(connections.on(at), from, value, timeoutMs),
  };
}

function quorumOn(connections: NodeConnections): ports.NodeQuorum {
  return {
    read: (node) => readQuorum(connections.on(node), node),
    set: (node, quorum) => setQuorum(connections.on(node), node, quorum),
    refusals: (node) => readRefusals(connections.on(node)),
    refuseWrites: (node, ref, name) =>
      connections.session(node, (sql) => refuseWrites(sql, connections.on(node), ref, name)),
    takeWrites: (node, ref) => connections.session(node, (sql) => takeWrites(sql, ref)),
  };
}

function sessionsOn(connections: NodeConnections): ports.Sessions {
  return {
    lockHolders: (node, { tid, pid }) => lockHolders(connections.on(node), tid, pid),
    endHolders: (node, { tid, pid }) => endHolders(connections.on(node), tid, pid),
    oldestWriter: (node) => oldestWriter(connections.on(node)),
    snapshotMark: (node) => snapshotMark(connections.on(node)),
    olderSnapshots: (node, mark) => olderSnapshots(connections.on(node), mark),
  };
}
