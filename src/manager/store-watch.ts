import type { NodeId } from '../catalog/model.ts';
import type { EventLog } from './event-log.ts';

export interface StoreWatchPorts {
  /** Where the manager is. */
  home: NodeId;
  store: { readonly isFull: boolean };
  events: EventLog;
}

/** Tells of a meta store without room, which nobody else may be writing to, and when it has some again. */
export class StoreWatch {
  readonly #ports: StoreWatchPorts;
  #wasFull = false;

  constructor(ports: StoreWatchPorts) {
    this.#ports = ports;
  }

  async round(): Promise<void> {
    // What cannot be told is told when there is room again.
    this.#wasFull = await this.#tell().catch(() => true);
  }

  async #tell(): Promise<boolean> {
    const { home, store, events } = this.#ports;
    await events.flush();
    const { isFull } = store;
    if (isFull === this.#wasFull) return isFull;
    const text = isFull
      ? 'the meta store has no room on its disk: operations wait, nodes that die are not replaced, settings stay as they are'
      : 'the meta store has room again: operations go on';
    await events.add({ kind: isFull ? 'meta-full' : 'meta-room', node: home, text });
    return isFull;
  }
}
