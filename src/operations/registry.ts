import { decommission, drainNode, joinNode, rebalance } from './kinds/membership.ts';
import { addReplica, changeLeader, moveReplica, removeReplica, resyncReplica } from './kinds/replica-moves.ts';
import { createTable, dropTable } from './kinds/tables.ts';

/** Every kind of operation there is. Tests that kill at each step boundary take their list from here. */
export const OPERATION_KINDS = new Map(
  [
    addReplica,
    changeLeader,
    createTable,
    decommission,
    drainNode,
    dropTable,
    joinNode,
    moveReplica,
    rebalance,
    removeReplica,
    resyncReplica,
  ].map((kind) => [kind.kind, kind]),
);
