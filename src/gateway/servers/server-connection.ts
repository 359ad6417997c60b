import { connect, type Socket } from 'node:net';
import type { ServerAddress } from '../messages.ts';
import { type BindMessage, bindTo, parseMessage } from '../wire/extended.ts';
import {
  cancelRequest,
  DESCRIBE_PORTAL,
  EXECUTE_ALL,
  endOfMessage,
  errorFields,
  HEAD_BYTES,
  PARSE_COMPLETE,
  SYNC,
  TYPE,
} from '../wire/messages.ts';
import { greet } from './greet.ts';

/** One execution of a statement in a transaction of its own, and who gets the answer. */
export interface Execution {
  readonly text: string;
  readonly types: readonly number[];
  readonly bind: Buffer;
  readonly bound: BindMessage;
  /** The client asks what the columns are. */
  readonly describes: boolean;
  /** The client waits to hear that its statement is one. */
  readonly saysParsed: boolean;
  /**
   * A piece of what the server sends, but for what the client has not asked for. False: the client has
   * enough for now; `resume` goes on.
   */
  answer(bytes: Buffer, resume: () => void): boolean;
  /** What is sent in the place of a RowDescription or an ErrorResponse. */
  exchange(message: Buffer): Buffer;
  /** The server has no such table, or not for us: nothing was done. */
  notHere(): void;
  /** All was answered. `wasParsed`: the server took the text for a statement. */
  done(wasParsed: boolean): void;
  /** The connection was lost, and `why`. `answered`: something of the answer has come. */
  lost(answered: boolean, why: string): void;
}

interface InFlight {
  readonly execution: Execution;
  /** Under what name the server is to know the statement, where it was sent along. */
  readonly parsing: { readonly key: string; readonly name: string } | null;
  answered: boolean;
  wasParsed: boolean;
  isNotHere: boolean;
}

/** undefined_table, invalid_schema_name, insufficient_privilege */
const NOT_HERE: ReadonlySet<string> = new Set(['42P01', '3F000', '42501']);
/** One that knows so many statements is given no new ones. */
const STATEMENTS_MAX = 500;
/** Read as a whole, whoever they are for. */
const WHOLE: ReadonlySet<number> = new Set(Object.values(TYPE).filter((type) => type !== TYPE.dataRow));
const NOT_FOR_CLIENTS: ReadonlySet<number> = new Set([
  TYPE.notification,
  TYPE.backendKeyData,
  TYPE.authentication,
  TYPE.parameterStatus,
]);

/**
 * A connection to one server, as one role with its settings: executes statements of several clients, one
 * after the other, each in a transaction of its own.
 */
export class ServerConnection {
  readonly #socket: Socket;
  readonly #known = new Map<string, string>();
  readonly #inFlight: InFlight[] = [];
  readonly #out: Buffer[] = [];
  readonly #closed: (() => void)[] = [];
  /** For whoever is first, and not passed on yet: each time costs a call of the system. */
  #parts: Buffer[] = [];
  #names = 0;
  #isFlushing = false;
  #kept: Buffer | null = null;
  /** Of the long message under way, yet to come. */
  #longBytes = 0;
  #why = 'it was closed';
  #isRetired = false;
  #headSinceMs = 0;
  readonly #sendCancel: () => void;

  private constructor(socket: Socket, sendCancel: () => void) {
    this.#socket = socket;
    this.#sendCancel = sendCancel;
    socket.on('data', (piece: Buffer) => this.#take(piece));
    socket.on('error', (error) => {
      this.#why = error.message;
    });
    socket.on('close', () => this.#close());
  }

  /**
   * Connects, and asks `question` (one row of one column of text). Throws what keeps it from being of use.
   */
  static async open(
    address: ServerAddress,
    parameters: ReadonlyMap<string, string>,
    question: string,
  ): Promise<{ connection: ServerConnection; answer: string }> {
    const socket = connect({ ...address, noDelay: true });
    const { answer, key } = await greet(socket, parameters, question);
    return { connection: new ServerConnection(socket, () => cancel(address, key)), answer };
  }

  /** Statements that are under way. */
  get load(): number {
    return this.#inFlight.length;
  }

  /** How long the server has been with the statement that it is at, milliseconds. */
  get waitedMs(): number {
    return this.#inFlight.length === 0 ? 0 : performance.now() - this.#headSinceMs;
  }

  onClose(listener: () => void): void {
    this.#closed.push(listener);
  }

  knows(text: string, types: readonly number[]): boolean {
    if (this.#isRetired) return false;
    return this.#known.size < STATEMENTS_MAX || this.#known.has(keyOf(text, types));
  }

  execute(execution: Execution): void {
    const { text, types, bind, bound, describes } = execution;
    const key = keyOf(text, types);
    let name = this.#known.get(key);
    let parsing: InFlight['parsing'] = null;
    if (name === undefined) {
      this.#names += 1;
      name = `s${this.#names}`;
      parsing = { key, name };
      this.#out.push(parseMessage(name, text, types));
    }
    if (this.#inFlight.length === 0) this.#headSinceMs = performance.now();
    this.#inFlight.push({ execution, parsing, answered: false, wasParsed: parsing === null, isNotHere: false });
    this.#out.push(bindTo(bind, bound, name));
    if (describes) this.#out.push(DESCRIBE_PORTAL);
    this.#out.push(EXECUTE_ALL, SYNC);
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    // What others have to execute in this turn goes along.
    setImmediate(() => this.#flush());
  }

  /**
   * Cancels what is under way. A request to cancel may come late: so nothing else is executed here after
   * that.
   */
  readonly cancel = (): void => {
    this.#isRetired = true;
    this.#sendCancel();
  };

  close(): void {
    this.#socket.destroy();
  }

  #flush(): void {
    this.#isFlushing = false;
    this.#socket.write(Buffer.concat(this.#out));
    this.#out.length = 0;
  }

  #close(): void {
    for (const { execution, answered } of this.#inFlight.splice(0)) execution.lost(answered, this.#why);
    for (const listener of this.#closed.splice(0)) listener();
  }

  #take(piece: Buffer): void {
    const bytes = this.#kept === null ? piece : Buffer.concat([this.#kept, piece]);
    this.#kept = null;
    let from = 0;
    let at = 0;
    if (this.#longBytes > 0) {
      at = Math.min(this.#longBytes, bytes.length);
      this.#longBytes -= at;
    }
    while (at + HEAD_BYTES <= bytes.length) {
      const type = bytes[at] as number;
      const end = endOfMessage(bytes, at);
      if (end < at + HEAD_BYTES) {
        this.#lose('its answers cannot be understood');
        return;
      }
      if (end > bytes.length) {
        if (WHOLE.has(type)) break;
        this.#longBytes = end - bytes.length;
        at = bytes.length;
        break;
      }
      if (WHOLE.has(type)) {
        const isLast = type === TYPE.readyForQuery;
        if (!isLast || !this.#inFlight[0]?.isNotHere) this.#pass(bytes, from, isLast ? end : at);
        if (isLast) this.#done();
        else this.#control(type, bytes.subarray(at, end));
        from = end;
      }
      at = end;
    }
    this.#pass(bytes, from, at);
    this.#passOn();
    if (at < bytes.length) this.#kept = bytes.subarray(at);
  }

  #pass(bytes: Buffer, from: number, to: number): void {
    if (from < to) this.#answer(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to));
  }

  #answer(bytes: Buffer): void {
    const [head] = this.#inFlight;
    if (head === undefined) return;
    if (!head.answered && head.parsing === null && head.execution.saysParsed) this.#parts.push(PARSE_COMPLETE);
    head.answered = true;
    this.#parts.push(bytes);
  }

  #passOn(): void {
    const [head] = this.#inFlight;
    if (head === undefined || this.#parts.length === 0) return;
    const bytes = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
    this.#parts = [];
    if (head.execution.answer(bytes, () => this.#socket.resume())) return;
    // Where others wait for what comes behind, one slow client does not hold them up.
    if (this.#inFlight.length === 1) this.#socket.pause();
  }

  #control(type: number, message: Buffer): void {
    const [head] = this.#inFlight;
    if (type === TYPE.errorResponse) {
      const { V, C, M } = errorFields(message);
      if (V !== 'ERROR') this.#why = `${M} (${C})`;
      // There is no such hinge, or it is closed: nothing was done.
      else if (head && !head.answered && NOT_HERE.has(C ?? '')) head.isNotHere = true;
      else if (head) this.#answer(head.execution.exchange(message));
    } else if (type === TYPE.parseComplete) {
      if (head?.parsing == null) return;
      head.wasParsed = true;
      this.#known.set(head.parsing.key, head.parsing.name);
      if (head.execution.saysParsed) this.#answer(message);
    } else if (type === TYPE.rowDescription) {
      if (head) this.#answer(head.execution.exchange(message));
    } else if (!NOT_FOR_CLIENTS.has(type)) this.#answer(message);
  }

  #done(): void {
    this.#passOn();
    const head = this.#inFlight.shift();
    this.#headSinceMs = performance.now();
    if (head?.isNotHere) head.execution.notHere();
    else head?.execution.done(head.wasParsed);
  }

  #lose(why: string): void {
    this.#why = why;
    this.#socket.destroy();
  }
}

const keyOf = (text: string, types: readonly number[]) => `${text}\0${types.join()}`;

function cancel(address: ServerAddress, key: Buffer): void {
  const socket = connect(address, () => socket.end(cancelRequest(key)));
  socket.on('error', () => socket.destroy()).resume();
}
