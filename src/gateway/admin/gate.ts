import { CLIENT, type ClientListener } from '../wire/client-frames.ts';
import { isPlain, parseMessage, readBind, readExecute, readParse, readTarget } from '../wire/extended.ts';
import { FLUSH, queryText, simpleQuery } from '../wire/messages.ts';
import { readStatement } from './read.ts';
import { lines, type Reading, type Work } from './reading.ts';

/** Statements about the cluster that a session has prepared. More are not known as such. */
const PREPARED_MAX = 1_000;
const STATEMENT = 0x53;

/** The node has something to do before it is executed. */
type WithWork = Extract<Reading, { kind: 'look' | 'do' }>;

const hasWork = (reading: Reading): reading is WithWork => reading.kind === 'look' || reading.kind === 'do';

type Relations = Extract<Reading, { kind: 'look' }>['relations'];

/** Each calls back when it is over, however that went: what came of it is told by the session's server. */
export interface AdminPorts {
  /** Brings what a statement reads up to date. */
  look(relations: Relations, done: () => void): void;
  /** Carries a command out; null: one that may not be where it stands. */
  perform(work: Work | null, done: () => void): void;
  /**
   * What of all that was sent has no answer yet: nothing; something that was sent since the last Sync; or
   * something before that.
   */
  unanswered(): 'nothing' | 'here' | 'before';
  /** How a statement would be executed, line by line. */
  explain(statement: string): readonly string[];
  /** The session is in a transaction, as of the last answer. */
  isInTransaction(): boolean;
}

interface Due {
  readonly work: Work;
  /** That it is a statement of; null: it came by itself. */
  readonly statement: string | null;
  readonly message: Buffer;
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
  /** Portals of statements that do something, not executed yet. */
  readonly #portals = new Map<string, Pick<Due, 'work' | 'statement'>>();
  /** Something else was executed since the last Sync: it is one transaction with what follows. */
  #isMixed = false;
  /** Prepared since all was answered: whether the server has them is not known. */
  readonly #unsure = new Set<string>();
  /** The server skips what is sent, up to Sync. */
  #hasFailed = false;
  /** Work that waits until what was sent before it is answered. */
  #due: Due | null = null;
  #isWorking = false;
  #later: Later[] = [];
  #laterBytes = 0;

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
    else this.#take(type, bytes);
  }

  piece(type: number | null, bytes: Buffer): void {
    if (this.isWaiting) this.#wait(type, bytes, false);
    else {
      // Of a name nothing is known; one that was taken is none that it could have.
      if (type === CLIENT.parse) this.#prepared.delete('');
      this.#behind.piece(type, bytes);
    }
  }

  broken(bytes: Buffer): void {
    this.#behind.broken(bytes);
  }

  /** The server has answered something that the client has sent with an error. */
  failed(): void {
    if (this.#ports.unanswered() !== 'before') this.#hasFailed = true;
    for (const name of this.#unsure) this.#prepared.delete(name);
    this.#unsure.clear();
  }

  /** Something was answered: what waits for that may go on. */
  answered(): void {
    const unanswered = this.#ports.unanswered();
    if (unanswered === 'nothing') this.#unsure.clear();
    if (this.#due === null || unanswered === 'before') return;
    const { work, statement, message } = this.#due;
    if (this.#hasFailed || (statement !== null && !this.#prepared.has(statement))) this.#goOn(message);
    else if (unanswered === 'nothing') this.#begin(work, message);
  }

  #wait(type: number | null, bytes: Buffer, isWhole: boolean): void {
    this.#later.push({ type, bytes, isWhole });
    this.#laterBytes += bytes.length;
  }

  #take(type: number, bytes: Buffer): void {
    if (type === CLIENT.query) this.#query(bytes);
    else if (type === CLIENT.parse) this.#parse(bytes);
    else if (type === CLIENT.bind) this.#bind(bytes);
    else if (type === CLIENT.execute) this.#execute(bytes);
    else this.#pass(type, bytes);
  }

  #pass(type: number, bytes: Buffer): void {
    if (type === CLIENT.close) {
      const target = readTarget(bytes);
      if (target?.kind === STATEMENT) this.#prepared.delete(target.name);
    } else if (type === CLIENT.sync) {
      this.#isMixed = false;
      this.#hasFailed = false;
      this.#portals.clear();
    }
    this.#behind.message(type, bytes);
  }

  #query(bytes: Buffer): void {
    const text = queryText(bytes);
    const reading = text === null ? null : readStatement(text);
    // It ends what the extended protocol has begun.
    const isMixed = this.#isMixed;
    this.#isMixed = false;
    this.#prepared.delete('');
    if (reading === null) this.#behind.message(CLIENT.query, bytes);
    else if (!hasWork(reading)) this.#behind.message(CLIENT.query, simpleQuery(this.#textOf(reading)));
    else if (reading.kind === 'look')
      this.#look(reading.relations, reading.text === text ? bytes : simpleQuery(reading.text));
    else this.#do(isMixed ? null : reading.work, null, simpleQuery(reading.text));
  }

  #parse(bytes: Buffer): void {
    const read = readParse(bytes);
    const reading = read && readStatement(read.text);
    if (read) this.#prepared.delete(read.statement);
    if (read && reading) {
      if (hasWork(reading)) this.#remember(read.statement, reading);
      // Its own bytes are in the client's encoding.
      const text = this.#textOf(reading);
      this.#behind.message(CLIENT.parse, text === read.text ? bytes : parseMessage(read.statement, text, read.types));
    } else this.#behind.message(CLIENT.parse, bytes);
  }

  #remember(name: string, reading: WithWork): void {
    if (this.#prepared.size < PREPARED_MAX) this.#prepared.set(name, reading);
    this.#unsure.add(name);
  }

  #textOf(reading: Reading): string {
    return reading.kind === 'route' ? lines(this.#ports.explain(reading.statement)) : reading.text;
  }

  #bind(bytes: Buffer): void {
    const bound = this.#prepared.size === 0 ? null : readBind(bytes);
    const reading = bound && this.#prepared.get(bound.statement);
    if (bound) this.#portals.delete(bound.portal);
    if (!bound || !reading) this.#behind.message(CLIENT.bind, bytes);
    // What a query sees is what is there when it is bound.
    else if (reading.kind === 'look') this.#look(reading.relations, bytes);
    else {
      // Others fail.
      if (isPlain(bytes, bound)) this.#portals.set(bound.portal, { work: reading.work, statement: bound.statement });
      this.#behind.message(CLIENT.bind, bytes);
    }
  }

  #execute(bytes: Buffer): void {
    const portal = this.#portals.size === 0 ? null : (readExecute(bytes)?.portal ?? null);
    const bound = portal === null ? undefined : this.#portals.get(portal);
    if (portal === null || bound === undefined) {
      this.#isMixed = true;
      this.#behind.message(CLIENT.execute, bytes);
      return;
    }
    this.#portals.delete(portal);
    const isMixed = this.#isMixed;
    this.#isMixed = true;
    this.#do(isMixed ? null : bound.work, bound.statement, bytes);
  }

  #look(relations: Relations, message: Buffer): void {
    this.#isWorking = true;
    this.#ports.look(relations, () => this.#goOn(message));
  }

  /** Not before all that was sent earlier is known to have succeeded. Null: it may not be. */
  #do(work: Work | null, statement: string | null, message: Buffer): void {
    if (work === null) this.#begin(work, message);
    else {
      this.#due = { work, statement, message };
      if (this.#ports.unanswered() === 'here') this.#behind.message(CLIENT.flush, FLUSH);
      this.answered();
    }
  }

  #begin(work: Work | null, message: Buffer): void {
    this.#due = null;
    this.#isWorking = true;
    this.#ports.perform(this.#ports.isInTransaction() ? null : work, () => this.#goOn(message));
  }

  #goOn(message: Buffer): void {
    this.#due = null;
    this.#isWorking = false;
    this.#behind.message(message[0] as number, message);
    while (!this.isWaiting) {
      const next = this.#later.shift();
      if (next === undefined) return;
      this.#laterBytes -= next.bytes.length;
      if (next.isWhole) this.message(next.type as number, next.bytes);
      else this.piece(next.type, next.bytes);
    }
  }
}
