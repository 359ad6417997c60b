import type { NodeId } from '../catalog/model.ts';
import type { InspectedTable, Inspector, Inventory, InventoryKind } from '../manager/ports.ts';
import type { NodeConnections } from './sql/client.ts';
import { inspectTable } from './sql/inspect-table.ts';
import { readInventory, removeObject } from './sql/inventory.ts';
import { readLag } from './sql/mesh.ts';
import { readSizes } from './sql/replica.ts';

/** Reads real servers for the manager. */
export class PostgresInspector implements Inspector {
  readonly #connections: NodeConnections;

  constructor(connections: NodeConnections) {
    this.#connections = connections;
  }

  async sizes(node: NodeId) {
    return readSizes(this.#connections.on(node));
  }

  async lag(node: NodeId) {
    return readLag(this.#connections.on(node));
  }

  async inspectTable(node: NodeId, text: string, distributeBy: string | undefined): Promise<InspectedTable> {
    return this.#connections.session(node, (sql) => inspectTable(sql, text, distributeBy));
  }

  async inventory(node: NodeId): Promise<Inventory> {
    return readInventory(this.#connections.on(node));
  }

  async remove(node: NodeId, kind: InventoryKind, name: string): Promise<void> {
    await removeObject(this.#connections.on(node), kind, name);
  }
}
