import type { BindMessage } from '../wire/extended.ts';

/** A statement that a client has prepared, by its name; the unnamed one too. */
export interface Prepared {
  readonly text: string;
  readonly types: readonly number[];
  /** The client's own message, until home has been sent it. */
  parse: Buffer | null;
}

/** One execution of a prepared statement in a transaction of its own, as the client has sent it. */
export interface Unit {
  readonly prepared: Prepared;
  readonly bind: Buffer;
  readonly bound: BindMessage;
  /** The client asks what the columns are. */
  readonly describes: boolean;
  /** The name by which the client has prepared it in the same breath, and waits to hear so; null: before. */
  readonly parsedAs: string | null;
  /** All of it, as it came. */
  readonly messages: readonly Buffer[];
}

export interface FlowPorts {
  toHome(bytes: Buffer): void;
  /**
   * Executes a unit elsewhere, and calls `elsewhere` of the flow when it is over. False: it has to be
   * executed at home.
   */
  tryElsewhere(unit: Unit): boolean;
  /** Whether a statement may be executed elsewhere at all: a first look. */
  isCandidate(prepared: Prepared): boolean;
  /** A statement goes home, to be prepared or executed; null: nobody knows which. */
  saw(text: string | null): void;
}
