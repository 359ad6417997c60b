import { connect } from 'node:net';
import type { NodeId } from '../catalog/model.ts';
import type { InspectedTable, Inspector, Inventory, InventoryKind } from '../manager/ports.ts';
import type { Address } from './connect.ts';
import type { NodeConnections } from './sql/client.ts';
import { inspectTable } from './sql/inspect-table.ts';
import { readInventory, removeObject } from './sql/inventory.ts';
import { readLocalData } from './sql/local-data.ts';
import { asUser } from './sql/other-session.ts';
import { readReceived } from './sql/renewal.ts';
import { readSizes } from './sql/replica.ts';
import { readLag, readSlots } from './sql/slots.ts';
import { nameTaken } from './sql/table.ts';

/** Reads real servers for the manager. */
export class PostgresInspector implements Inspector {
  readonly #connections: NodeConnections;
  readonly #addressOf: (node: NodeId) => Address;

  constructor(connections: NodeConnections, addressOf: (node: NodeId) => Address) {
    this.#connections = connections;
    this.#addressOf = addressOf;
  }

  async sizes(node: NodeId) {
    return this.#connections.session(node, readSizes);
  }

  async lag(node: NodeId) {
    return readLag(this.#connections.on(node));
  }

  async slots(node: NodeId) {
    return readSlots(this.#connections.on(node));
  }

  async received(node: NodeId) {
    return readReceived(this.#connections.on(node));
  }

  async nameTaken(node: NodeId, schema: string, name: string): Promise<string | null> {
    return nameTaken(this.#connections.on(node), schema, name);
  }

  async inspectTable(node: NodeId, text: string, distributeBy: string | undefined): Promise<InspectedTable> {
    const asClient: Parameters<typeof inspectTable>[1] = (work) => asUser(node, this.#addressOf(node), work);
    return this.#connections.session(node, (sql) => inspectTable(sql, asClient, node, text, distributeBy));
  }

  async inventory(node: NodeId): Promise<Inventory> {
    return readInventory(this.#connections.on(node));
  }

  async localData(node: NodeId) {
    return readLocalData(node, this.#addressOf(node));
  }

  async knock(node: NodeId) {
    return knock(this.#addressOf(node));
  }

  async remove(node: NodeId, kind: InventoryKind, name: string): Promise<void> {
    await removeObject(this.#connections.on(node), kind, name);
  }
}

const KNOCK_MS = 500;

function knock({ host, port }: Address): Promise<'accepts' | 'refused' | 'silent'> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: KNOCK_MS });
    const answer = (found: 'accepts' | 'refused' | 'silent') => {
      socket.destroy();
      resolve(found);
    };
    socket.once('connect', () => answer('accepts'));
    socket.once('timeout', () => answer('silent'));
    socket.on('error', (error: NodeJS.ErrnoException) => answer(error.code === 'ECONNREFUSED' ? 'refused' : 'silent'));
  });
}
