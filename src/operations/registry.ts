import { drainNode } from './kinds/drain.ts';
import { decommission, joinNode, rebalance } from './kinds/membership.ts';
import { dropNode, failover, giveUpNode, recoverNode } from './kinds/outage.ts';
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
    dropNode,
    dropTable,
    failover,
    giveUpNode,
    joinNode,
    moveReplica,
    rebalance,
    recoverNode,
    removeReplica,
    resyncReplica,
  ].map((kind) => [kind.kind, kind]),
);
