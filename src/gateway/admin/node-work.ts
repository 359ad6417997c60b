import type { RelationName } from '../../api/relations.ts';
import type { FromWorker } from '../messages.ts';
import type { Outcome, Work } from './reading.ts';

/** What the node's process does for statements about the cluster that this worker's sessions execute. */
export class NodeWork {
  readonly #tell: (message: FromWorker) => void;
  readonly #calls = new Map<number, (outcome: Outcome) => void>();
  #lastCall = 0;

  constructor(tell: (message: FromWorker) => void) {
    this.#tell = tell;
  }

  /** Comes back when they are as the cluster is, or say why they are not. */
  async look(relations: readonly RelationName[]): Promise<void> {
    await this.#call((call) => ({ say: 'look', call, relations }));
  }

  perform(work: Work): Promise<Outcome> {
    return this.#call((call) => ({ say: 'perform', call, work }));
  }

  /** The node's process has done what it was asked in this call. */
  done(call: number, outcome: Outcome): void {
    this.#calls.get(call)?.(outcome);
    this.#calls.delete(call);
  }

  #call(message: (call: number) => FromWorker): Promise<Outcome> {
    this.#lastCall += 1;
    const call = this.#lastCall;
    const done = new Promise<Outcome>((resolve) => this.#calls.set(call, resolve));
    this.#tell(message(call));
    return done;
  }
}
