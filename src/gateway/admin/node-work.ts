import type { RelationName } from '../../api/relations.ts';
import type { FromWorker } from '../messages.ts';
import type { Work } from './reading.ts';

/** What the node's process does for statements about the cluster that this worker's sessions execute. */
export class NodeWork {
  readonly #tell: (message: FromWorker) => void;
  readonly #calls = new Map<number, () => void>();
  #lastCall = 0;

  constructor(tell: (message: FromWorker) => void) {
    this.#tell = tell;
  }

  /** Comes back when they are as the cluster is, or say why they are not. */
  look(relations: readonly RelationName[]): Promise<void> {
    return this.#call((call) => ({ say: 'look', call, relations }));
  }

  /** Comes back when what came of it is there for the session of this process. Null: it may not be. */
  perform(process: number, work: Work | null): Promise<void> {
    return this.#call((call) => ({ say: 'perform', call, process, work }));
  }

  /** The node's process has done what it was asked in this call. */
  done(call: number): void {
    this.#calls.get(call)?.();
    this.#calls.delete(call);
  }

  #call(message: (call: number) => FromWorker): Promise<void> {
    this.#lastCall += 1;
    const call = this.#lastCall;
    const done = new Promise<void>((resolve) => this.#calls.set(call, resolve));
    this.#tell(message(call));
    return done;
  }
}
