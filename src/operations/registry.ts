import { addReplica } from './kinds/add-replica.ts';
import { changeLeader } from './kinds/change-leader.ts';
import { createTable } from './kinds/create-table.ts';
import { decommission } from './kinds/decommission.ts';
import { drainNode } from './kinds/drain-node.ts';
import { dropNode } from './kinds/drop-node.ts';
import { dropTable } from './kinds/drop-table.ts';
import { failover } from './kinds/failover.ts';
import { giveUpNode } from './kinds/give-up-node.ts';
import { joinNode } from './kinds/join-node.ts';
import { moveReplica } from './kinds/move-replica.ts';
import { rebalance } from './kinds/rebalance.ts';
import { recoverNode } from './kinds/recover-node.ts';
import { removeReplica } from './kinds/remove-replica.ts';
import { resyncReplica } from './kinds/resync-replica.ts';

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
