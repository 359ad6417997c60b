import { CLIENT, type ClientListener } from '../wire/client-frames.ts';
import { parseMessage, readBind, readParse, readTarget, statementOf } from '../wire/extended.ts';
import { queryText, simpleQuery } from '../wire/messages.ts';
import { readStatement } from './read.ts';
import { type Gives, lines, NOT_PREPARED, type Reading, TOO_MANY, type Work } from './reading.ts';

/** Statements that a session has prepared which read the cluster. */
const PREPARED_MAX = 1_000;
const STATEMENT = 0x53;

type Relations = Extract<Reading, { kind: 'look' }>['relations'];

export interface AdminPorts {
  /** Brings what a statement reads up to date, or has it say why it is not; calls back when that is over. */
  look(relations: Relations, done: () => void): void;
  /** Carries a command out, where it may be, and gives what is to be executed in its place. */
  perform(work: Work, gives: Gives, done: (text: string) => void): void;
  /** How a statement would be executed, line by line. */
  explain(statement: string): readonly string[];
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
  /** What statements read that the server may have by these names. */
  readonly #prepared = new Map<string, Relations>();
  /** Brought up to date since the last Sync. */
  readonly #looked = new Set<string>();
  #isWorking = false;
  #later: Later[] = [];
  #laterAt = 0;
  #laterBytes = 0;

  constructor(behind: ClientListener, ports: AdminPorts) {
    this.#behind = behind;
    this.#ports = ports;
  }

  /** A statement is worked for: what the client sends waits. */
  get isWaiting(): boolean {
    return this.#isWorking;
  }

  get waitingBytes(): number {
    return this.#laterBytes;
  }

  message(type: number, bytes: Buffer): void {
    if (this.#isWorking) this.#wait(type, bytes, true);
    else if (type === CLIENT.query) this.#query(bytes);
    else if (type === CLIENT.parse) this.#parse(bytes);
    else if (type === CLIENT.bind) this.#bind(bytes);
    else this.#pass(type, bytes);
  }

  piece(type: number | null, bytes: Buffer): void {
    if (this.#isWorking) this.#wait(type, bytes, false);
    else {
      // It is none that is known here.
      if (type === CLIENT.parse) this.#prepared.delete(statementOf(bytes) ?? '');
      this.#behind.piece(type, bytes);
    }
  }

  broken(bytes: Buffer): void {
    this.#behind.broken(bytes);
  }

  #wait(type: number | null, bytes: Buffer, isWhole: boolean): void {
    this.#later.push({ type, bytes, isWhole });
    this.#laterBytes += bytes.length;
  }

  #pass(type: number, bytes: Buffer): void {
    if (type === CLIENT.close) {
      const target = readTarget(bytes);
      if (target?.kind === STATEMENT) this.#prepared.delete(target.name);
    } else if (type === CLIENT.sync) this.#looked.clear();
    this.#behind.message(type, bytes);
  }

  #query(bytes: Buffer): void {
    const text = queryText(bytes);
    const reading = text === null ? null : readStatement(text);
    const pass = (made: string) => this.#behind.message(CLIENT.query, made === text ? bytes : simpleQuery(made));
    this.#looked.clear();
    this.#prepared.delete('');
    if (reading === null) this.#behind.message(CLIENT.query, bytes);
    else if (reading.kind === 'look') this.#look(reading.relations, () => pass(reading.text));
    else if (reading.kind === 'do') {
      this.#isWorking = true;
      this.#ports.perform(reading.work, reading.gives, (told) => this.#goOn(() => pass(told)));
    } else pass(this.#textOf(reading));
    this.#looked.clear();
  }

  #parse(bytes: Buffer): void {
    const read = readParse(bytes);
    const reading = read && readStatement(read.text);
    // The server takes a name once, but for none at all.
    if (read?.statement === '') this.#prepared.delete('');
    if (!read || !reading) {
      this.#behind.message(CLIENT.parse, bytes);
      return;
    }
    const isKept = reading.kind !== 'look' || this.#remember(read.statement, reading.relations);
    const text = isKept ? this.#textOf(reading) : TOO_MANY;
    // Its own bytes are in the client's encoding.
    const parse = text === read.text ? bytes : parseMessage(read.statement, text, read.types);
    const pass = () => this.#behind.message(CLIENT.parse, parse);
    // A transaction that sees one state sees that from here on.
    if (reading.kind === 'look') this.#look(reading.relations, pass);
    else pass();
  }

  /** Beside what one of that name reads already, which the server may have still. */
  #remember(name: string, relations: Relations): boolean {
    const before = this.#prepared.get(name);
    if (before === undefined && this.#prepared.size >= PREPARED_MAX) return false;
    this.#prepared.set(name, [...new Set([...(before ?? []), ...relations])]);
    return true;
  }

  #textOf(reading: Reading): string {
    if (reading.kind === 'route') return lines(this.#ports.explain(reading.statement));
    return reading.kind === 'do' ? NOT_PREPARED : reading.text;
  }

  #bind(bytes: Buffer): void {
    const bound = this.#prepared.size === 0 ? null : readBind(bytes);
    const relations = bound && this.#prepared.get(bound.statement);
    this.#look(relations ?? [], () => this.#behind.message(CLIENT.bind, bytes));
  }

  /** Once in what is sent up to a Sync. */
  #look(relations: Relations, pass: () => void): void {
    const missing = relations.filter((name) => !this.#looked.has(name));
    if (missing.length === 0) {
      pass();
      return;
    }
    for (const name of missing) this.#looked.add(name);
    this.#isWorking = true;
    this.#ports.look(missing, () => this.#goOn(pass));
  }

  #goOn(pass: () => void): void {
    this.#isWorking = false;
    pass();
    while (!this.#isWorking && this.#laterAt < this.#later.length) {
      const next = this.#later[this.#laterAt] as Later;
      this.#laterAt += 1;
      this.#laterBytes -= next.bytes.length;
      if (next.isWhole) this.message(next.type as number, next.bytes);
      else this.piece(next.type, next.bytes);
    }
    if (this.#laterAt < this.#later.length) return;
    this.#later = [];
    this.#laterAt = 0;
  }
}
