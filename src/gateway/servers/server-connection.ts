import { connect, type Socket } from 'node:net';
import type { ServerAddress } from '../messages.ts';
import { type BindMessage, executionOf, parseMessage } from '../wire/extended.ts';
import { cancelRequest, endOfMessage, errorFields, HEAD_BYTES, PARSE_COMPLETE, TYPE } from '../wire/messages.ts';
import { ask, type Begun, begin } from './ask.ts';

/** A statement as a server is told it. Equal ones have the same `key`. */
export interface Statement {
  readonly text: string;
  readonly types: readonly number[];
  readonly key: string;
}

/** One execution of a statement in a transaction of its own, and who gets the answer. */
export interface Execution {
  readonly statement: Statement;
  readonly bind: Buffer;
  readonly bound: BindMessage;
  /** The client asks what the columns are. */
  readonly describes: boolean;
  /** The client waits to hear that its statement is one. */
  readonly saysParsed: boolean;
  /**
   * A piece of what the server sends, but for what the client has not asked for. False: the client has
   * enough for now; `resume` of what is running goes on.
   */
  answer(bytes: Buffer): boolean;
  /** What is sent in the place of a RowDescription or an ErrorResponse. */
  exchange(message: Buffer): Buffer;
  /** Nothing was done: the server has no such table, or not for us, or was never asked. */
  notHere(): void;
  /** All was answered. `wasParsed`: the server took the text for a statement. */
  done(wasParsed: boolean): void;
  lost(loss: Loss): void;
}

/** The connection is gone, and nobody knows what the server has done. */
export interface Loss {
  readonly why: string;
  /** Something of the answer was passed on. */
  readonly answered: boolean;
  readonly saidParsed: boolean;
  /** What was passed on ends within a message. */
  readonly isTorn: boolean;
}

/** A statement that is under way. */
export interface Running {
  /** The client can take more. */
  resume(): void;
  /**
   * Has the server end it. Where others share the connection it cannot be: true, the client is to be told
   * that it was, and hears nothing more; false, the answer is on its way.
   */
  cancel(): boolean;
  /** Nobody wants the answer. */
  leave(): void;
}

interface InFlight {
  readonly execution: Execution;
  /** Under what name the server is to know the statement, where it was sent along. */
  readonly parsing: { readonly key: string; readonly name: string } | null;
  /** The flush with which it is sent. */
  readonly flush: number;
  answered: boolean;
  wasParsed: boolean;
  isNotHere: boolean;
  /** Nobody hears the answer. */
  isLeft: boolean;
}

/** After a request to cancel the server has so long. */
const CANCEL_MS = 10_000;
/**
 * undefined_table, invalid_schema_name, insufficient_privilege; undefined_function: somebody has made one
 * at home
 */
const NOT_HERE: ReadonlySet<string> = new Set(['42P01', '3F000', '42501', '42883']);
/** One that knows so many statements is given no new ones. */
const STATEMENTS_MAX = 500;
/** Passed on as they come; all others whole. */
const IN_PIECES: ReadonlySet<number> = new Set([TYPE.dataRow]);
/** Looked at, or for no client. */
const CONTROL: ReadonlySet<number> = new Set([
  ...[TYPE.parseComplete, TYPE.errorResponse, TYPE.rowDescription, TYPE.readyForQuery],
  ...[TYPE.notification, TYPE.backendKeyData, TYPE.authentication, TYPE.parameterStatus],
]);

/**
 * A connection to one server, as one role with its settings: executes statements of several clients, one
 * after the other, each in a transaction of its own.
 */
export class ServerConnection {
  readonly #socket: Socket;
  readonly #address: ServerAddress;
  readonly #key: Buffer;
  readonly #known = new Map<string, string>();
  readonly #inFlight: InFlight[] = [];
  readonly #closed: (() => void)[] = [];
  #out: Buffer[] = [];
  #flushes = 0;
  #isFlushing = false;
  /** For whoever is first, and not passed on yet: each time costs a call of the system. */
  #parts: Buffer[] = [];
  #names = 0;
  #kept: Buffer | null = null;
  /** Of the long message under way, yet to come. */
  #longBytes = 0;
  #isOpen = true;
  #why = 'it was closed';
  #headSinceMs = 0;

  private constructor(address: ServerAddress, { socket, key }: Begun) {
    this.#address = address;
    this.#socket = socket;
    this.#key = key;
    socket.on('data', (piece: Buffer) => this.#take(piece));
    socket.on('error', (error) => {
      this.#why = error.message;
    });
    socket.once('end', () => this.lose(this.#why));
    socket.once('close', () => this.#close());
    socket.resume();
  }

  /**
   * Connects, and asks `question` (one row of one column of text). Rejects with what keeps it from being of
   * use.
   */
  static async open(
    address: ServerAddress,
    parameters: ReadonlyMap<string, string>,
    question: string,
  ): Promise<{ connection: ServerConnection; answer: string }> {
    const begun = await begin(address, parameters);
    const answer = await ask(begun.socket, question);
    return { connection: new ServerConnection(address, begun), answer };
  }

  /** Statements that are under way. */
  get load(): number {
    return this.#inFlight.length;
  }

  /** How long the server has been with the statement that it is at, milliseconds. */
  waitedMs(nowMs: number): number {
    return this.#inFlight.length === 0 ? 0 : nowMs - this.#headSinceMs;
  }

  onClose(listener: () => void): void {
    this.#closed.push(listener);
  }

  takes({ key }: Statement): boolean {
    return this.#isOpen && (this.#known.size < STATEMENTS_MAX || this.#known.has(key));
  }

  /** Only what it takes. */
  execute(execution: Execution): Running {
    const { statement, bind, bound, describes } = execution;
    let name = this.#known.get(statement.key);
    let parsing: InFlight['parsing'] = null;
    if (name === undefined) {
      this.#names += 1;
      name = `s${this.#names}`;
      parsing = { key: statement.key, name };
      this.#out.push(parseMessage(name, statement.text, statement.types));
    }
    this.#out.push(executionOf(bind, bound, name, describes));
    if (this.#inFlight.length === 0) this.#headSinceMs = performance.now();
    const inFlight: InFlight = {
      ...{ execution, parsing, flush: this.#flushes },
      ...{ answered: false, wasParsed: parsing === null, isNotHere: false, isLeft: false },
    };
    this.#inFlight.push(inFlight);
    if (!this.#isFlushing) {
      this.#isFlushing = true;
      // What others have to execute in this turn goes along.
      setImmediate(() => this.#flush());
    }
    return {
      resume: () => this.#socket.resume(),
      cancel: () => this.#cancel(inFlight),
      leave: () => this.#leave(inFlight),
    };
  }

  /** Whoever waits for it is told why. */
  lose(why: string): void {
    this.#isOpen = false;
    if (this.#socket.destroyed) return;
    this.#why = why;
    this.#socket.destroy();
  }

  #cancel(inFlight: InFlight): boolean {
    if (this.#inFlight.length === 1 && this.#inFlight[0] === inFlight) {
      this.#endStatement();
      return false;
    }
    if (inFlight.answered) return false;
    inFlight.isLeft = true;
    return true;
  }

  #leave(inFlight: InFlight): void {
    if (!this.#inFlight.includes(inFlight)) return;
    inFlight.isLeft = true;
    this.#parts = inFlight === this.#inFlight[0] ? [] : this.#parts;
    this.#socket.resume();
    if (this.#inFlight.length === 1) this.#endStatement();
  }

  /** A request to cancel may come late: so nothing else is executed here after it. */
  #endStatement(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const request = connect(this.#address, () => request.end(cancelRequest(this.#key)));
    request.setTimeout(CANCEL_MS, () => request.destroy());
    request.on('error', () => request.destroy()).resume();
    const timer = setTimeout(() => this.lose('it did not answer a request to cancel'), CANCEL_MS);
    this.onClose(() => clearTimeout(timer));
  }

  #flush(): void {
    if (this.#socket.destroyed) return;
    this.#isFlushing = false;
    this.#flushes += 1;
    const out = this.#out;
    this.#out = [];
    this.#socket.write(out.length === 1 ? (out[0] as Buffer) : Buffer.concat(out));
  }

  #close(): void {
    this.#isOpen = false;
    for (const listener of this.#closed.splice(0)) listener();
    const isTorn = this.#longBytes > 0;
    for (const [i, { execution, answered, wasParsed, isLeft, flush }] of this.#inFlight.splice(0).entries()) {
      if (isLeft) continue;
      if (this.#isFlushing && flush === this.#flushes) execution.notHere();
      else execution.lost({ why: this.#why, answered, saidParsed: answered && wasParsed, isTorn: isTorn && i === 0 });
    }
  }

  #take(piece: Buffer): void {
    const bytes = this.#kept === null ? piece : Buffer.concat([this.#kept, piece]);
    this.#kept = null;
    let from = 0;
    let at = Math.min(this.#longBytes, bytes.length);
    this.#longBytes -= at;
    while (at + HEAD_BYTES <= bytes.length) {
      const type = bytes[at] as number;
      const end = endOfMessage(bytes, at);
      if (end < at + HEAD_BYTES) {
        this.lose('its answers cannot be understood');
        return;
      }
      if (end > bytes.length) {
        if (!IN_PIECES.has(type)) break;
        this.#longBytes = end - bytes.length;
        at = bytes.length;
        break;
      }
      if (CONTROL.has(type)) {
        this.#pass(bytes, from, at);
        if (type === TYPE.readyForQuery) this.#done(bytes.subarray(at, end));
        else this.#control(type, bytes.subarray(at, end));
        from = end;
      }
      at = end;
    }
    this.#pass(bytes, from, at);
    this.#passOn(false);
    if (at < bytes.length) this.#kept = bytes.subarray(at);
    // One that was ended has nobody to wait for.
    if (!this.#isOpen && this.#inFlight.length === 0) this.#socket.destroy();
  }

  #pass(bytes: Buffer, from: number, to: number): void {
    if (from < to) this.#answer(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to));
  }

  #answer(bytes: Buffer): void {
    const head = this.#inFlight[0];
    if (head === undefined || head.isLeft || head.isNotHere) return;
    if (!head.answered && head.wasParsed && head.execution.saysParsed) this.#parts.push(PARSE_COMPLETE);
    head.answered = true;
    this.#parts.push(bytes);
  }

  #passOn(isAll: boolean): void {
    const head = this.#inFlight[0];
    if (head === undefined || this.#parts.length === 0) return;
    const bytes = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
    this.#parts = [];
    // Where others wait for what comes behind, one slow client does not hold them up.
    if (!head.execution.answer(bytes) && !isAll && this.#inFlight.length === 1) this.#socket.pause();
  }

  #control(type: number, message: Buffer): void {
    const head = this.#inFlight[0];
    if (type === TYPE.errorResponse) {
      const { V, C, M } = errorFields(message);
      if (V !== 'ERROR') {
        this.#isOpen = false;
        this.#why = `${M} (${C})`;
      } else if (head && !head.answered && NOT_HERE.has(C ?? '')) head.isNotHere = true;
      else if (head) this.#answer(head.execution.exchange(message));
    } else if (type === TYPE.parseComplete) {
      if (head?.parsing == null) return;
      head.wasParsed = true;
      this.#known.set(head.parsing.key, head.parsing.name);
    } else if (type === TYPE.rowDescription && head) this.#answer(head.execution.exchange(message));
  }

  #done(message: Buffer): void {
    this.#answer(message);
    this.#passOn(true);
    const head = this.#inFlight.shift();
    if (this.#inFlight.length > 0) this.#headSinceMs = performance.now();
    if (head === undefined || head.isLeft) return;
    if (head.isNotHere) head.execution.notHere();
    else head.execution.done(head.wasParsed);
  }
}
