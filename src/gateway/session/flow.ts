import { CLIENT, type ClientListener } from '../wire/client-frames.ts';
import { type BindMessage, readBind, readExecute, readParse, readTarget } from '../wire/extended.ts';
import { HEAD_BYTES, SYNC } from '../wire/messages.ts';

/** A statement that a client has prepared, by its name; the unnamed one too. */
export interface Prepared {
  readonly text: string;
  readonly types: readonly number[];
  /** The client's own message, until home has been sent it for good. */
  parse: Buffer | null;
  /** Whether that server has it. */
  isAtHome: boolean;
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
   * Executes a unit elsewhere, and calls `elsewhere` of the flow when it is over. False: it has to be executed at
   * home.
   */
  tryElsewhere(unit: Unit): boolean;
  /** Whether a statement may be executed elsewhere at all: a first look. */
  isCandidate(prepared: Prepared): boolean;
  /** A statement goes home; null: nobody knows which. */
  saw(text: string | null): void;
}

/** More statements than that of one session have no names that are remembered. */
const PREPARED_MAX = 2_000;

/**
 * What home has yet to answer, in order: a ParseComplete, or the end of what was sent together (ReadyForQuery).
 * `isOwn`: the client has not asked.
 */
interface Due {
  readonly parsed: { readonly name: string; readonly prepared: Prepared } | null;
  readonly isOwn: boolean;
}

const END: Due = { parsed: null, isOwn: false };
const OWN_END: Due = { parsed: null, isOwn: true };

/** Parse, Bind, Describe, Execute: of one unit, in this order. */
interface Held {
  readonly messages: Buffer[];
  /** The statement that it parses, by its name. */
  parsed: { readonly name: string; readonly prepared: Prepared } | null;
  bind: { readonly message: Buffer; readonly bound: BindMessage; readonly prepared: Prepared } | null;
  describes: boolean;
  executes: boolean;
}

/**
 * What goes where, of what one client sends: to the session's own server, which is its home, or elsewhere. A
 * unit (Bind, Execute, Sync, with a Parse before it and a Describe in it where there is one) may be executed
 * elsewhere when nothing is under way at home and no transaction is open there. Everything else goes home, in
 * order. What home lacks of a statement that was prepared elsewhere it is given before it is asked for it.
 *
 * Knows no sockets and no time.
 */
export class Flow implements ClientListener {
  readonly #ports: FlowPorts;
  readonly #prepared = new Map<string, Prepared>();
  #held: Held | null = null;
  readonly #due: Due[] = [END];
  /** Something was sent home since the last Sync. */
  #isUnsynced = false;
  #isInTransaction = false;
  /** A unit is executed elsewhere: what the client sends meanwhile waits. */
  #isElsewhere = false;
  readonly #later: { type: number | null; bytes: Buffer; isWhole: boolean }[] = [];
  #laterBytes = 0;

  constructor(ports: FlowPorts) {
    this.#ports = ports;
  }

  /** What waits because a unit is executed elsewhere, bytes. */
  get waitingBytes(): number {
    return this.#laterBytes;
  }

  message(type: number, bytes: Buffer): void {
    if (this.#isElsewhere) this.#wait(type, bytes, true);
    else if (!this.#hold(type, bytes)) this.#home(type, bytes);
  }

  piece(type: number | null, bytes: Buffer): void {
    if (this.#isElsewhere) return this.#wait(type, bytes, false);
    if (type !== null) this.#release();
    if (type === CLIENT.query) this.#due.push(END);
    else if (type !== null) this.#isUnsynced = true;
    // What it is called is not read: whoever comes back to it finds it at home.
    if (type === CLIENT.parse) this.#prepared.clear();
    if (type === CLIENT.parse || type === CLIENT.query) this.#ports.saw(null);
    this.#ports.toHome(bytes);
  }

  broken(bytes: Buffer): void {
    this.#release();
    this.#ports.toHome(bytes);
  }

  /** ReadyForQuery has come from home, with its status ('I', 'T' or 'E'). True: it is none of the client's. */
  ready(status: number): boolean {
    this.#isInTransaction = status !== 0x49;
    const end = this.#due.findIndex((due) => due.parsed === null);
    const answered = this.#due.splice(0, end + 1);
    // An error came in their place.
    for (const { parsed, isOwn } of answered) if (parsed && !isOwn) this.#forget(parsed.name, parsed.prepared);
    return answered.at(-1) === OWN_END;
  }

  /** ParseComplete has come from home. True: it is none of the client's. */
  parsed(): boolean {
    const [due] = this.#due;
    if (due === undefined || due.parsed === null) return false;
    this.#due.shift();
    due.parsed.prepared.isAtHome = true;
    return due.isOwn;
  }

  /** An error has come from home. True: it is none of the client's. */
  failed(): boolean {
    return this.#due.find((due) => due.parsed === null) === OWN_END;
  }

  /**
   * The unit that was executed elsewhere is over. `atHome`: nothing of it has been done, it is to be done there.
   * `unparsed`: it has failed, as a statement that is none.
   */
  elsewhere(unit: Unit, outcome: 'done' | 'atHome' | 'unparsed'): void {
    this.#isElsewhere = false;
    if (outcome === 'atHome') this.#sendHome(unit);
    else if (unit.parsedAs !== null) {
      if (outcome === 'unparsed') this.#forget(unit.parsedAs, unit.prepared);
      else if (unit.parsedAs !== '') this.#introduce(unit.parsedAs, unit.prepared);
    }
    const waiting = this.#later.splice(0);
    this.#laterBytes = 0;
    for (const { type, bytes, isWhole } of waiting) {
      if (isWhole) this.message(type as number, bytes);
      else this.piece(type, bytes);
    }
  }

  #forget(name: string, prepared: Prepared): void {
    if (this.#prepared.get(name) === prepared) this.#prepared.delete(name);
  }

  #wait(type: number | null, bytes: Buffer, isWhole: boolean): void {
    this.#later.push({ type, bytes, isWhole });
    this.#laterBytes += bytes.length;
  }

  get #isIdle(): boolean {
    return this.#due.every((due) => due.isOwn) && !this.#isUnsynced && !this.#isInTransaction;
  }

  /** Keeps a message that may be part of a unit. False: it is none. */
  #hold(type: number, bytes: Buffer): boolean {
    const held = this.#held;
    if (held === null && !this.#isIdle) return false;
    switch (type) {
      case CLIENT.parse:
        return held === null && this.#holdParse(bytes);
      case CLIENT.bind:
        return held?.bind == null && this.#holdBind(bytes);
      case CLIENT.describe: {
        if (held === null || held.bind === null || held.describes || held.executes) return false;
        const target = readTarget(bytes);
        if (target === null || target.kind !== 0x50 || target.name !== '') return false;
        held.describes = true;
        held.messages.push(bytes);
        return true;
      }
      case CLIENT.execute: {
        if (held === null || held.bind === null || held.executes) return false;
        const execute = readExecute(bytes);
        if (execute === null || execute.portal !== '' || execute.rowsMax !== 0) return false;
        held.executes = true;
        held.messages.push(bytes);
        return true;
      }
      case CLIENT.sync:
        return held?.executes === true && this.#run(held, bytes);
      default:
        return false;
    }
  }

  #holdParse(bytes: Buffer): boolean {
    const read = readParse(bytes);
    if (read === null) return false;
    const { statement: name, text, types } = read;
    // PostgreSQL takes no name twice, but for none at all.
    if (name !== '' && this.#prepared.has(name)) return false;
    if (this.#prepared.size >= PREPARED_MAX) return false;
    // A copy: what it was read with is longer, and would be kept for as long.
    const prepared = { text, types, parse: Buffer.from(bytes), isAtHome: false };
    if (!this.#ports.isCandidate(prepared)) return false;
    const parsed = { name, prepared };
    this.#held = { messages: [bytes], parsed, bind: null, describes: false, executes: false };
    return true;
  }

  #holdBind(bytes: Buffer): boolean {
    const bound = readBind(bytes);
    if (bound === null || bound.portal !== '') return false;
    const parsed = this.#held?.parsed ?? null;
    const prepared = parsed?.name === bound.statement ? parsed.prepared : this.#prepared.get(bound.statement);
    if (prepared === undefined || !this.#ports.isCandidate(prepared)) return false;
    this.#held ??= { messages: [], parsed: null, bind: null, describes: false, executes: false };
    // It parses one statement, and executes another.
    if (parsed !== null && prepared !== parsed.prepared) return false;
    this.#held.bind = { message: bytes, bound, prepared };
    this.#held.messages.push(bytes);
    return true;
  }

  #run({ messages, parsed, bind, describes }: Held, sync: Buffer): boolean {
    if (bind === null) return false;
    const { message, bound, prepared } = bind;
    const unit: Unit = {
      prepared,
      bind: message,
      bound,
      describes,
      parsedAs: parsed?.name ?? null,
      messages: [...messages, sync],
    };
    this.#isElsewhere = this.#ports.tryElsewhere(unit);
    if (!this.#isElsewhere) return false;
    this.#held = null;
    if (parsed !== null) this.#remember(parsed.name, parsed.prepared);
    return true;
  }

  #remember(name: string, prepared: Prepared): void {
    if (this.#prepared.size >= PREPARED_MAX && !this.#prepared.has(name)) return;
    this.#prepared.set(name, prepared);
  }

  /** What was held is no unit: it goes home. */
  #release(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    const { parsed, bind, messages } = held;
    if (parsed !== null) this.#remember(parsed.name, parsed.prepared);
    const prepared = bind?.prepared ?? parsed?.prepared;
    if (prepared !== undefined) this.#sendHome({ prepared, messages, parsedAs: parsed?.name ?? null });
  }

  #sendHome({ prepared, messages, parsedAs }: Pick<Unit, 'prepared' | 'messages' | 'parsedAs'>): void {
    if (parsedAs === null) this.#repeat(prepared);
    else {
      this.#ports.saw(prepared.text);
      prepared.parse = null;
      this.#due.push({ parsed: { name: parsedAs, prepared }, isOwn: false });
    }
    for (const bytes of messages) this.#pass(bytes[0] as number, bytes);
  }

  /** A statement with a name lasts: home is told of it at once, by itself, so that it can be used there. */
  #introduce(name: string, prepared: Prepared): void {
    if (prepared.parse === null) return;
    this.#due.push({ parsed: { name, prepared }, isOwn: true }, OWN_END);
    this.#ports.saw(prepared.text);
    this.#ports.toHome(prepared.parse);
    this.#ports.toHome(SYNC);
    prepared.parse = null;
  }

  /** The unnamed one lasts until the next: home is told when it is asked for it, as often as it is. */
  #repeat(prepared: Prepared): void {
    if (prepared.isAtHome || prepared.parse === null || this.#prepared.get('') !== prepared) return;
    this.#due.push({ parsed: { name: '', prepared }, isOwn: true });
    this.#ports.saw(prepared.text);
    this.#ports.toHome(prepared.parse);
    this.#isUnsynced = true;
  }

  #pass(type: number, bytes: Buffer): void {
    const ends = type === CLIENT.sync || type === CLIENT.query || type === CLIENT.functionCall;
    if (ends) this.#due.push(END);
    if (type !== CLIENT.terminate) this.#isUnsynced = !ends;
    this.#ports.toHome(bytes);
  }

  #home(type: number, bytes: Buffer): void {
    this.#release();
    switch (type) {
      case CLIENT.parse: {
        const read = readParse(bytes);
        if (read) {
          const { statement: name, text, types } = read;
          const prepared = { text, types, parse: null, isAtHome: true };
          this.#ports.saw(text);
          this.#remember(name, prepared);
          this.#due.push({ parsed: { name, prepared }, isOwn: false });
        }
        break;
      }
      case CLIENT.bind: {
        const bound = readBind(bytes);
        const prepared = bound && this.#prepared.get(bound.statement);
        if (prepared) this.#repeat(prepared);
        break;
      }
      case CLIENT.describe:
      case CLIENT.close: {
        const target = readTarget(bytes);
        const prepared = target?.kind === 0x53 ? this.#prepared.get(target.name) : undefined;
        if (target && prepared && type === CLIENT.close) this.#prepared.delete(target.name);
        else if (prepared) this.#repeat(prepared);
        break;
      }
      // The unnamed statement lasts until then.
      case CLIENT.query:
        this.#prepared.delete('');
        this.#ports.saw(textOf(bytes));
        break;
      case CLIENT.functionCall:
        this.#ports.saw(null);
        break;
    }
    this.#pass(type, bytes);
  }
}

/** Of a Query message. */
function textOf(message: Buffer): string | null {
  return message.at(-1) === 0 ? message.toString('utf8', HEAD_BYTES, message.length - 1) : null;
}
