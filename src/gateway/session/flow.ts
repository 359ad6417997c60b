import { CLIENT, type ClientListener } from '../wire/client-frames.ts';
import { type BindMessage, readBind, readExecute, readParse, readTarget } from '../wire/extended.ts';
import { HEAD_BYTES, SYNC } from '../wire/messages.ts';
import type { FlowPorts, Prepared, Unit } from './unit.ts';

/** What Describe and Close are about. */
const STATEMENT = 0x53;
const PORTAL = 0x50;
/** Of a ReadyForQuery: no transaction is open. */
const IDLE = 0x49;
/** They are part of no batch: data of a COPY, its end, and that of the session. */
const UNBOUND: ReadonlySet<number> = new Set([CLIENT.copyData, CLIENT.copyDone, CLIENT.copyFail, CLIENT.terminate]);
/** More statements than that of one session have no names that are remembered. */
const PREPARED_MAX = 2_000;

/**
 * What home has yet to answer, in order: ParseComplete, CloseComplete, or the end of what was sent together
 * (ReadyForQuery). `name`: of the statement; null: it is no statement, or was not read. `told`: the client
 * has not asked; of a Parse, the message that was sent for it.
 */
type Due =
  | { readonly what: 'parse'; readonly name: string; readonly prepared: Prepared; readonly told: Buffer | null }
  | { readonly what: 'parse'; readonly name: null; readonly prepared: null; readonly told: null }
  | { readonly what: 'close'; readonly name: string | null; readonly told: null }
  | typeof END
  | typeof OWN_END
  | typeof ANSWER;

const END = { what: 'end', told: null } as const;
const OWN_END = { what: 'end', told: SYNC } as const;
/** All up to the next ReadyForQuery is the answer to a question that the client has not asked. */
const ANSWER = { what: 'end', told: SYNC } as const;

/** A message, or a piece of one. */
interface Later {
  readonly type: number | null;
  readonly bytes: Buffer;
  readonly isWhole: boolean;
}

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
  /** Null: whether there is one of this name, and which, is for home to say. */
  readonly #prepared = new Map<string, Prepared | null>();
  /** There are names that were not read or not kept. */
  #areNamesUnknown = false;
  /** What was sent home last that decides what a name is, until it is answered. */
  readonly #latest = new Map<string, Due>();
  /** What home does not have yet. */
  readonly #owed = new Map<string, Prepared>();
  #held: Held | null = null;
  readonly #due: Due[] = [END];
  /** Something was sent home since the last Sync. */
  #isUnsynced = false;
  #isInTransaction = false;
  /** A unit is executed elsewhere: what the client sends meanwhile waits. */
  #isElsewhere = false;
  #later: Later[] = [];
  #laterAt = 0;
  #laterBytes = 0;

  constructor(ports: FlowPorts) {
    this.#ports = ports;
  }

  /** A unit is executed elsewhere; what home says meanwhile comes after its answer. */
  get isElsewhere(): boolean {
    return this.#isElsewhere;
  }

  /** What home says, up to the next ReadyForQuery, is the answer to `ask`. */
  get isAnswering(): boolean {
    return this.#due[0] === ANSWER;
  }

  /** Home executes a parse that the client has not sent. */
  get isParsingOwn(): boolean {
    const [due] = this.#due;
    return due?.what === 'parse' && due.told !== null;
  }

  /**
   * All that was sent is answered, and no transaction is open: what is sent now is one by itself. False also
   * where that is not known.
   */
  get isQuiet(): boolean {
    return this.#isIdle && this.#held === null && !this.#isElsewhere;
  }

  /** Asks home in the client's place, while nothing is under way there. */
  ask(messages: Buffer): void {
    this.#due.push(ANSWER);
    this.#ports.toHome(messages);
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
    if (this.#isElsewhere) {
      this.#wait(type, bytes, false);
      return;
    }
    if (type !== null) {
      this.#release();
      this.#begin(null);
    }
    if (type === CLIENT.query || type === CLIENT.functionCall) {
      this.#due.push(END);
      this.#isUnsynced = false;
      this.#ports.saw(null);
    } else if (type !== null && !UNBOUND.has(type)) this.#isUnsynced = true;
    if (type === CLIENT.parse) this.#unread();
    this.#ports.toHome(bytes);
  }

  broken(bytes: Buffer): void {
    this.#release();
    this.#ports.toHome(bytes);
  }

  /**
   * ReadyForQuery has come from home, with its status ('I', 'T' or 'E'). True: it is none of the client's.
   */
  ready(status: number): boolean {
    this.#isInTransaction = status !== IDLE;
    const end = this.#due.findIndex(({ what }) => what === 'end');
    const answered = this.#due.splice(0, end + 1);
    // An error came in the place of what is before the end.
    for (const due of answered) {
      if (due.what === 'parse' && due.told) this.#owe(due.name, due.prepared, due.told);
      else if (due.what !== 'end' && due.name !== null) this.#isLatest(due.name, due);
    }
    return answered.at(-1)?.told === SYNC;
  }

  /** ParseComplete has come from home. True: it is none of the client's. */
  parsed(): boolean {
    const [due] = this.#due;
    if (due?.what !== 'parse') return false;
    this.#due.shift();
    if (due.name === null) return false;
    if (due.told === null && this.#isLatest(due.name, due)) this.#remember(due.name, due.prepared);
    return due.told !== null;
  }

  /** CloseComplete has come from home. */
  closed(): void {
    const [due] = this.#due;
    if (due?.what !== 'close') return;
    this.#due.shift();
    if (due.name !== null && this.#isLatest(due.name, due)) this.#prepared.delete(due.name);
  }

  /** An error has come from home. True: it is none of the client's. */
  failed(): boolean {
    return this.#due.find(({ what }) => what === 'end')?.told === SYNC;
  }

  /**
   * The unit that was executed elsewhere is over. `atHome`: nothing of it has been done, it is to be done
   * there. `unparsed`: it has failed, as a statement that is none.
   */
  elsewhere(unit: Unit, outcome: 'done' | 'atHome' | 'unparsed'): void {
    this.#isElsewhere = false;
    if (outcome === 'atHome') this.#sendHome(unit);
    else if (unit.parsedAs !== null) {
      // Home may still have an earlier one without a name: what failed is told to it, too, before anything
      // else.
      if (outcome === 'unparsed' && unit.parsedAs === '') this.#prepared.set('', null);
      else if (outcome === 'unparsed') this.#lose(unit.parsedAs);
      // One with a name lasts: home is told of it at once, so that it can be used there.
      else if (unit.parsedAs !== '') this.#tellOwed(unit.parsedAs);
    }
    while (this.#laterAt < this.#later.length && !this.#isElsewhere) {
      const { type, bytes, isWhole } = this.#later[this.#laterAt] as Later;
      this.#laterAt += 1;
      this.#laterBytes -= bytes.length;
      if (isWhole) this.message(type as number, bytes);
      else this.piece(type, bytes);
    }
    if (this.#laterAt < this.#later.length) return;
    this.#later = [];
    this.#laterAt = 0;
  }

  /** Whether nothing that was sent after it decides. */
  #isLatest(name: string, due: Due): boolean {
    return this.#latest.get(name) === due && this.#latest.delete(name);
  }

  #lose(name: string): void {
    this.#prepared.delete(name);
    this.#owed.delete(name);
  }

  #owe(name: string, prepared: Prepared, parse: Buffer): void {
    prepared.parse = parse;
    if (this.#prepared.get(name) === prepared) this.#owed.set(name, prepared);
  }

  #wait(type: number | null, bytes: Buffer, isWhole: boolean): void {
    this.#later.push({ type, bytes, isWhole });
    this.#laterBytes += bytes.length;
  }

  get #isIdle(): boolean {
    return this.#due.every(({ told }) => told !== null) && !this.#isUnsynced && !this.#isInTransaction;
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
        if (target === null || target.kind !== PORTAL || target.name !== '') return false;
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
    if (name !== '' && (this.#areNamesUnknown || this.#prepared.has(name))) return false;
    // A copy: what it was read with is longer, and would be kept for as long.
    const prepared = { text, types, parse: Buffer.from(bytes) };
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
    if (prepared == null || !this.#ports.isCandidate(prepared)) return false;
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
    if (parsed !== null) {
      this.#remember(parsed.name, parsed.prepared);
      this.#owed.set(parsed.name, parsed.prepared);
    }
    return true;
  }

  #remember(name: string, prepared: Prepared | null): void {
    if (this.#prepared.size < PREPARED_MAX || this.#prepared.has(name)) this.#prepared.set(name, prepared);
    else this.#areNamesUnknown = true;
  }

  /** What was held is no unit: it goes home. */
  #release(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    const { parsed, bind, messages } = held;
    const prepared = bind?.prepared ?? parsed?.prepared;
    if (prepared !== undefined) this.#sendHome({ prepared, messages, parsedAs: parsed?.name ?? null });
  }

  #sendHome({ prepared, messages, parsedAs }: Pick<Unit, 'prepared' | 'messages' | 'parsedAs'>): void {
    this.#begin(parsedAs);
    if (parsedAs === null) this.#ports.saw(prepared.text);
    else this.#parse(parsedAs, prepared);
    for (const bytes of messages) this.#pass(bytes[0] as number, bytes);
  }

  /**
   * Something goes home, beginning with a Parse of this name or with something else (null): before it, what
   * home does not have yet of statements that were executed elsewhere.
   */
  #begin(parses: string | null): void {
    if (this.#owed.size === 0 || this.#isUnsynced || this.#isInTransaction) return;
    // What fails must not be in the middle of the client's own.
    if (this.#due.some(({ told }) => told === null)) return;
    for (const name of [...this.#owed.keys()]) if (name !== parses) this.#tellOwed(name);
  }

  /** Home is told of a statement by itself: whether that succeeds is nothing to what the client sends. */
  #tellOwed(name: string): void {
    const prepared = this.#owed.get(name);
    this.#owed.delete(name);
    const parse = prepared?.parse ?? null;
    if (prepared === undefined || parse === null) return;
    this.#due.push({ what: 'parse', name, prepared, told: parse }, OWN_END);
    this.#ports.saw(prepared.text);
    this.#ports.toHome(parse);
    this.#ports.toHome(SYNC);
    prepared.parse = null;
  }

  /** A Parse goes home: what comes of it is for home to say. */
  #parse(name: string, prepared: Prepared): void {
    prepared.parse = null;
    this.#ports.saw(prepared.text);
    this.#owed.delete(name);
    this.#remember(name, null);
    this.#decides(name, { what: 'parse', name, prepared, told: null });
  }

  /** A Parse goes home, and what it says was not read. */
  #unread(): void {
    this.#areNamesUnknown = true;
    this.#lose('');
    this.#ports.saw(null);
    this.#latest.delete('');
    this.#due.push({ what: 'parse', name: null, prepared: null, told: null });
  }

  /** Home executes the statement of that name. */
  #sawExecuted(name: string | null): void {
    const pending = this.#due.findLast((due) => due.what === 'parse' && due.name === name);
    const prepared = pending?.what === 'parse' ? pending.prepared : name !== null && this.#prepared.get(name);
    if (prepared) this.#ports.saw(prepared.text);
    // Where there is none, nothing is executed.
    else if (prepared === null || this.#areNamesUnknown) this.#ports.saw(null);
  }

  #decides(name: string | null, due: Due): void {
    this.#due.push(due);
    if (name !== null) this.#latest.set(name, due);
  }

  #close(name: string | null): void {
    if (name !== null && this.#prepared.has(name)) this.#prepared.set(name, null);
    this.#decides(name, { what: 'close', name, told: null });
  }

  #pass(type: number, bytes: Buffer): void {
    const ends = type === CLIENT.sync || type === CLIENT.query || type === CLIENT.functionCall;
    if (ends) this.#due.push(END);
    if (!UNBOUND.has(type)) this.#isUnsynced = !ends;
    this.#ports.toHome(bytes);
  }

  #home(type: number, bytes: Buffer): void {
    this.#release();
    const parse = type === CLIENT.parse ? readParse(bytes) : null;
    if (type === CLIENT.query && !this.#isUnsynced) this.#lose('');
    this.#begin(parse?.statement ?? null);
    switch (type) {
      case CLIENT.parse:
        if (parse === null) this.#unread();
        else this.#parse(parse.statement, { text: parse.text, types: parse.types, parse: null });
        break;
      case CLIENT.bind:
        this.#sawExecuted(readBind(bytes)?.statement ?? null);
        break;
      case CLIENT.close: {
        const target = readTarget(bytes);
        this.#close(target?.kind === STATEMENT ? target.name : null);
        break;
      }
      case CLIENT.query:
        // The unnamed statement lasts until then.
        this.#latest.delete('');
        if (this.#prepared.has('')) this.#prepared.set('', null);
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
