import type { Progress } from '../session/unit.ts';
import { CLIENT, type ClientListener } from '../wire/client-frames.ts';
import {
  closeMessage,
  isPlain,
  parseMessage,
  readBind,
  readExecute,
  readParse,
  readTarget,
  reboundTo,
} from '../wire/extended.ts';
import { FLUSH, queryText, simpleQuery } from '../wire/messages.ts';
import { readStatement } from './read.ts';
import { type Gives, lines, PLACEHOLDER, type Reading, type Work } from './reading.ts';

/** Statements about the cluster that a session has prepared. More are not known as such, and fail. */
const PREPARED_MAX = 1_000;
const STATEMENT = 0x53;

/** The node has something to do before it is executed. */
type WithWork = Extract<Reading, { kind: 'look' | 'do' }>;
type Relations = Extract<Reading, { kind: 'look' }>['relations'];
type Command = Extract<Reading, { kind: 'do' }>;

const hasWork = (reading: Reading): reading is WithWork => reading.kind === 'look' || reading.kind === 'do';

export interface AdminPorts {
  /** Brings what a statement reads up to date, or has it say why it is not; calls back when that is over. */
  look(relations: Relations, done: () => void): void;
  /**
   * Carries a command out, and gives what is to be executed in its place. Null: it may not be where it
   * stands.
   */
  perform(work: Work | null, gives: Gives, done: (text: string) => void): void;
  /** How a statement would be executed, line by line. */
  explain(statement: string): readonly string[];
  /** Sends messages of the gateway's own, whose answers the client does not get. */
  insert(answeredBy: 'parse' | 'close', messages: Buffer): void;
  progress(): Progress;
}

/** What waits until what was sent before it is answered. */
interface Due {
  readonly message: Buffer;
  /** Also what was sent since the last Sync. */
  readonly needsAll: boolean;
  begin(): void;
}

/** A portal of a command, not executed yet. */
interface Bound {
  readonly command: Command;
  readonly bind: Buffer;
}

interface Later {
  readonly type: number | null;
  readonly bytes: Buffer;
  readonly isWhole: boolean;
}

/**
 * What a client sends, on its way to its session, with statements about the cluster made into what its server
 * knows. While the node works for one of them everything waits here. Knows no sockets and no time.
 */
export class AdminGate implements ClientListener {
  readonly #behind: ClientListener;
  readonly #ports: AdminPorts;
  readonly #prepared = new Map<string, WithWork>();
  readonly #portals = new Map<string, Bound>();
  /** Something was executed since the last Sync: it is one transaction with what follows. */
  #isMixed = false;
  /** Something was sent since the last Sync. */
  #isUnsynced = false;
  /** Brought up to date since the last Sync. */
  readonly #looked = new Set<string>();
  /** The server skips what is sent, up to Sync. */
  #hasFailed = false;
  #due: Due | null = null;
  #isWorking = false;
  #later: Later[] = [];
  #laterBytes = 0;
  #names = 0;

  constructor(behind: ClientListener, ports: AdminPorts) {
    this.#behind = behind;
    this.#ports = ports;
  }

  /** A statement is worked for: what the client sends waits. */
  get isWaiting(): boolean {
    return this.#isWorking || this.#due !== null;
  }

  get waitingBytes(): number {
    return this.#laterBytes;
  }

  message(type: number, bytes: Buffer): void {
    if (this.isWaiting) this.#wait(type, bytes, true);
    else if (type === CLIENT.query) this.#query(bytes);
    else if (type === CLIENT.parse) this.#parse(bytes);
    else if (type === CLIENT.bind) this.#bind(bytes);
    else if (type === CLIENT.execute) this.#execute(bytes);
    else this.#pass(type, bytes);
  }

  piece(type: number | null, bytes: Buffer): void {
    if (this.isWaiting) this.#wait(type, bytes, false);
    else {
      // What the statement is called is not known.
      if (type === CLIENT.parse) this.#prepared.clear();
      this.#behind.piece(type, bytes);
    }
  }

  broken(bytes: Buffer): void {
    this.#behind.broken(bytes);
  }

  /** The server has answered something that the client has sent with an error. */
  failed(): void {
    if (this.#ports.progress().unanswered !== 'before') this.#hasFailed = true;
  }

  /** Something was answered: what waits for that may go on. */
  answered(): void {
    const due = this.#due;
    if (due === null) return;
    const { unanswered } = this.#ports.progress();
    if (unanswered === 'before') return;
    if (this.#hasFailed) this.#goOn(() => this.#behind.message(due.message[0] as number, due.message));
    else if (unanswered === 'nothing' || !due.needsAll) {
      this.#due = null;
      this.#isWorking = true;
      due.begin();
    }
  }

  #wait(type: number | null, bytes: Buffer, isWhole: boolean): void {
    this.#later.push({ type, bytes, isWhole });
    this.#laterBytes += bytes.length;
  }

  #pass(type: number, bytes: Buffer): void {
    if (type === CLIENT.close) {
      const target = readTarget(bytes);
      if (target?.kind === STATEMENT) this.#prepared.delete(target.name);
    } else if (type === CLIENT.sync) {
      this.#hasFailed = false;
      this.#ended();
    }
    this.#behind.message(type, bytes);
  }

  /** What was sent is a transaction by itself, where none is open. */
  #ended(): void {
    this.#isMixed = false;
    this.#isUnsynced = false;
    this.#looked.clear();
    this.#portals.clear();
  }

  #query(bytes: Buffer): void {
    const text = queryText(bytes);
    const reading = text === null ? null : readStatement(text);
    const isMixed = this.#isMixed;
    if (reading !== null && this.#isUnsynced) this.#barrier();
    this.#ended();
    this.#prepared.delete('');
    if (reading === null) this.#behind.message(CLIENT.query, bytes);
    else if (reading.kind === 'do')
      this.#do(reading, isMixed, bytes, (told) => this.#behind.message(CLIENT.query, simpleQuery(told)));
    else {
      const made = this.#textOf(reading);
      const query = made === text ? bytes : simpleQuery(made);
      if (reading.kind === 'look') this.#look(reading.relations, query);
      else this.#behind.message(CLIENT.query, query);
    }
    this.#looked.clear();
  }

  #parse(bytes: Buffer): void {
    const read = readParse(bytes);
    const reading = read && readStatement(read.text);
    this.#isUnsynced = true;
    if (read) this.#prepared.delete(read.statement);
    if (!read || !reading) {
      this.#behind.message(CLIENT.parse, bytes);
      return;
    }
    if (hasWork(reading) && this.#prepared.size < PREPARED_MAX) this.#prepared.set(read.statement, reading);
    const text = this.#textOf(reading);
    // Its own bytes are in the client's encoding.
    const parse = text === read.text ? bytes : parseMessage(read.statement, text, read.types);
    // A transaction that sees one state sees that from here on.
    if (reading.kind === 'look') this.#look(reading.relations, parse);
    else this.#behind.message(CLIENT.parse, parse);
  }

  #textOf(reading: Reading): string {
    if (reading.kind === 'route') return lines(this.#ports.explain(reading.statement));
    return reading.kind === 'do' ? PLACEHOLDER[reading.gives] : reading.text;
  }

  #bind(bytes: Buffer): void {
    const bound = this.#prepared.size === 0 ? null : readBind(bytes);
    const reading = bound && this.#prepared.get(bound.statement);
    this.#isUnsynced = true;
    if (bound) this.#portals.delete(bound.portal);
    if (reading?.kind === 'look') {
      this.#look(reading.relations, bytes);
      return;
    }
    // Others fail.
    if (bound && reading && isPlain(bytes, bound)) this.#portals.set(bound.portal, { command: reading, bind: bytes });
    this.#behind.message(CLIENT.bind, bytes);
  }

  #execute(bytes: Buffer): void {
    const execute = this.#portals.size === 0 ? null : readExecute(bytes);
    const bound = execute && this.#portals.get(execute.portal);
    const isMixed = this.#isMixed;
    this.#isMixed = true;
    this.#isUnsynced = true;
    if (!execute || !bound) {
      this.#behind.message(CLIENT.execute, bytes);
      return;
    }
    this.#portals.delete(execute.portal);
    this.#barrier();
    this.#do(bound.command, isMixed, bytes, (text) => this.#insert(text, bound.bind));
  }

  /** What is sent before it is answered, with success, once this is. */
  #barrier(): void {
    this.#ports.insert('close', Buffer.concat([closeMessage(`tide gate`), FLUSH]));
  }

  /** Executes a text in the place of what was bound. */
  #insert(text: string, bind: Buffer): void {
    this.#names += 1;
    const name = `tide gate ${this.#names}`;
    this.#ports.insert('parse', Buffer.concat([parseMessage(name, text, []), reboundTo(bind, name)]));
    this.#ports.insert('close', closeMessage(name));
  }

  /** Once in what is sent up to a Sync. */
  #look(relations: Relations, message: Buffer): void {
    const missing = relations.filter((name) => !this.#looked.has(name));
    const pass = () => this.#behind.message(message[0] as number, message);
    if (missing.length === 0) {
      pass();
      return;
    }
    for (const name of missing) this.#looked.add(name);
    this.#due = { message, needsAll: false, begin: () => this.#ports.look(missing, () => this.#goOn(pass)) };
    this.answered();
  }

  #do({ work, gives }: Command, isMixed: boolean, message: Buffer, tell: (text: string) => void): void {
    const begin = () => {
      const mayNot = isMixed || this.#ports.progress().isInTransaction;
      this.#ports.perform(mayNot ? null : work, gives, (text) => this.#goOn(() => tell(text)));
    };
    this.#due = { message, needsAll: true, begin };
    this.answered();
  }

  #goOn(pass: () => void): void {
    this.#due = null;
    this.#isWorking = false;
    pass();
    while (!this.isWaiting) {
      const next = this.#later.shift();
      if (next === undefined) return;
      this.#laterBytes -= next.bytes.length;
      if (next.isWhole) this.message(next.type as number, next.bytes);
      else this.piece(next.type, next.bytes);
    }
  }
}
