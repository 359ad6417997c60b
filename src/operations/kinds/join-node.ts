import type { NodeId } from '../../catalog/model.ts';
import { connectedNodes } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { again, DONE, nothingToUndo, operationKind, type Step, type StepContext } from '../operation.ts';
import { waitFor } from '../waiting.ts';

interface JoinInput {
  node: NodeId;
}

const joining = (c: StepContext<JoinInput>) => must(c.view.nodes.get(c.input.node), `node ${c.input.node}`);

const ROLES_LOOK_MS = 500;

const prepareDatabase: Step<JoinInput> = {
  name: 'prepare-database',
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    await c.plane.nodes.bootstrap(c.input.node);
    const left = c.view.ownRoles ? await c.plane.nodes.weakenClients(c.input.node) : 'already';
    if (left === 'already' || left === 'done') return DONE;
    return again(ROLES_LOOK_MS, waitFor('lock', `on node ${c.input.node}: ${left}`, c.input.node));
  },
  undo: async (c) => {
    await c.commit({ kind: 'node-changed', id: c.input.node, change: { state: 'decommissioned' } });
    return DONE;
  },
};

/**
 * Servers in both directions; a node that is away gets its own when it is back, one that is joining too when
 * its turn comes.
 */
const linkForeignServers: Step<JoinInput> = {
  name: 'link-servers',
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    for (const other of connectedNodes(c.view).filter((n) => n.id !== c.input.node)) {
      await c.plane.hinges.ensureForeignServer(c.input.node, other.id);
      if (c.alive(other.id) && other.state !== 'joining')
        await c.plane.hinges.ensureForeignServer(other.id, c.input.node);
    }
    return DONE;
  },
  undo: async (c) => {
    for (const other of connectedNodes(c.view).filter((n) => n.id !== c.input.node && c.alive(n.id))) {
      await c.plane.hinges.dropForeignServer(other.id, c.input.node);
    }
    return DONE;
  },
};

const createTables: Step<JoinInput> = {
  name: 'create-tables',
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    for (const table of c.view.tables.values()) {
      if (table.state === 'ready') await c.plane.parents.create(c.input.node, table);
    }
    return DONE;
  },
  undo: nothingToUndo('an empty store is cleared by its owner'),
};

const openNode: Step<JoinInput> = {
  name: 'open-node',
  noReturn: true,
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    await c.commit({ kind: 'node-changed', id: c.input.node, change: { state: 'active' } });
    await c.event('node-joined', `node ${c.input.node} at ${joining(c).address}`, c.input.node);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/** A node comes: its database is made like those of the others, and they reach each other. */
export const joinNode = operationKind<JoinInput>({
  kind: 'join-node',
  subject: (input) => `node ${input.node}`,
  locks: (input) => ['schema', `node:${input.node}`],
  movesOn: () => [],
  steps: [prepareDatabase, linkForeignServers, createTables, openNode],
});
