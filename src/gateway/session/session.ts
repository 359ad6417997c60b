import type { Socket } from 'node:net';
import { AdminGate } from '../admin/gate.ts';
import type { NodeWork } from '../admin/node-work.ts';
import { NO_RIGHT, NOT_QUIET, type Outcome, outcomeText, type Work } from '../admin/reading.ts';
import { asDeadlock, type SessionAnswers } from '../deadlock-answers.ts';
import type { Route } from '../router.ts';
import type { Routing } from '../routing.ts';
import type { ServerPool } from '../servers/pool.ts';
import type { Execution, Loss, Running } from '../servers/server-connection.ts';
import { ClientFrames } from '../wire/client-frames.ts';
import { questionOf } from '../wire/extended.ts';
import {
  cancelKey,
  errorFields,
  errorResponse,
  firstColumn,
  isFatal,
  PARSE_COMPLETE,
  parameterStatus,
  READY_IDLE,
  TYPE,
  withTable,
} from '../wire/messages.ts';
import { type Onlooker, ServerFrames } from '../wire/server-frames.ts';
import { inClientsText, keyIn, lostOn } from './elsewhere.ts';
import { Flow } from './flow.ts';
import { ANSWERS, OURS } from './heard.ts';
import { ASK_OWN, type OwnSettings, readOwnSettings } from './own-settings.ts';
import { routeLines } from './route-lines.ts';
import type { FlowPorts, Prepared, Unit } from './unit.ts';

/** Texts that were executed at home and not read yet. More of them, and nobody finds out any more. */
const UNREAD_MAX = 200;
/** So much may wait behind a statement that is executed elsewhere before the client is made to wait. */
const WAITING_BYTES_MAX = 256 << 10;
/**
 * Who has said his last word is still given an answer; later he is gone, as
 * `client_connection_check_interval` has it.
 */
const GONE_MS = 5_000;
/** A session's settings are asked for again: whoever owns the server may change them without a word. */
const FRESH_MS = 30_000;
/** PostgreSQL reports these settings; a client may change it without being another session for it. */
const HARMLESS = new Set(['application_name', 'in_hot_standby', 'is_superuser']);
/** What PostgreSQL says where somebody else has cancelled a statement (`lc_messages` as it is). */
const CANCELLED = 'canceling statement due to user request';

/** What is known of a prepared statement, for these settings of the session. */
interface Known {
  readonly generation: number;
  readonly own: OwnSettings;
  readonly route: Route | null;
  /** The table that it was of when it was first executed elsewhere. */
  readonly tid: number | null;
}

/**
 * A client's session: its own server, where it is at home, and the statements that are executed where their
 * rows are. For those it has to be known what names and values mean in it: home is asked, again after what
 * might have changed it; after what nobody can know (temporary tables, functions of somebody's) all stays
 * at home.
 */
export class Session implements FlowPorts, Onlooker {
  readonly #client: Socket;
  readonly #home: Socket;
  readonly #routing: Routing;
  readonly #answers: SessionAnswers;
  readonly #flow: Flow = new Flow(this);
  readonly #gate: AdminGate;
  readonly #clientFrames: ClientFrames;
  readonly #homeFrames = new ServerFrames(this);
  readonly #known = new WeakMap<Prepared, Known>();
  #out: Buffer[] = [];
  /** From home, to come after the answer from elsewhere. */
  #held: Buffer[] = [];
  #unread = new Set<string>();
  /** Nothing that nobody can know has been done in it. */
  #isOrdinary = true;
  #hasBegun = false;
  #own: { readonly settings: OwnSettings; readonly pool: ServerPool; readonly atMs: number } | null = null;
  #askedMs: number | null = null;
  #answer: string | null = null;
  /** What it was asked has changed since. */
  #isAnswerVoid = false;
  /** It was said that nothing of it is to be executed elsewhere: when to ask again. */
  #askAgainMs = 0;
  #key: Buffer | null = null;
  /** Who asked as whom the session acts. */
  #roleAsked: ((isClients: boolean) => void) | null = null;
  #running: { readonly unit: Unit; readonly running: Running; isCancelled: boolean } | null = null;
  #clientHasEnded = false;
  #goneTimer: NodeJS.Timeout | undefined;
  #homeHasEnded = false;

  constructor(client: Socket, home: Socket, answers: SessionAnswers, routing: Routing, work: NodeWork) {
    this.#client = client;
    this.#home = home;
    this.#answers = answers;
    this.#routing = routing;
    this.#gate = new AdminGate(this.#flow, {
      look: (relations, done) => this.#after(work.look(relations), done),
      perform: (what, gives, done) => this.#perform(what, (outcome) => done(outcomeText(gives, outcome)), work),
      explain: (statement) => this.#explain(statement),
    });
    this.#clientFrames = new ClientFrames(this.#gate);
  }

  /** What the client has sent after its startup message. */
  fromClient(piece: Buffer): void {
    this.#clientFrames.take(piece);
    this.#flush();
    if (this.#waitingBytes > WAITING_BYTES_MAX) this.#client.pause();
  }

  /** The client sends nothing more; what it has sent is executed. */
  clientEnded(): void {
    this.#clientHasEnded = true;
    if (!this.#isWaiting) this.#home.end();
    else this.#goneTimer = setTimeout(() => this.#client.destroy(), GONE_MS).unref();
  }

  /** Nobody is there any more. */
  left(): void {
    this.#running?.running.leave();
    this.#running = null;
    this.#disown();
    this.#isOrdinary = false;
  }

  /** What the client is to get of what home sends, now. */
  fromHome(piece: Buffer): Buffer {
    const bytes = this.#homeFrames.take(piece);
    if (!this.#flow.isElsewhere) return bytes;
    if (bytes.length > 0) this.#held.push(bytes);
    return NOTHING;
  }

  /** Home has ended the session, or is gone. */
  homeEnded(): void {
    this.#homeHasEnded = true;
    if (!this.#flow.isElsewhere) this.#client.destroySoon();
  }

  wants(type: number): boolean {
    if (this.#flow.isAnswering && ANSWERS.has(type)) return true;
    return OURS.has(type) || this.#answers.wants(type);
  }

  exchange(message: Buffer): Buffer | null {
    const type = message[0] as number;
    if (this.#flow.isAnswering && ANSWERS.has(type) && !(type === TYPE.errorResponse && isFatal(message))) {
      this.#hear(type, message);
      return NOTHING;
    }
    if (type === TYPE.backendKeyData) this.#key = cancelKey(message);
    if (type === TYPE.parseComplete && this.#flow.parsed()) return NOTHING;
    if (type === TYPE.closeComplete) this.#flow.closed();
    if (type === TYPE.notice && this.#flow.isParsingOwn) return NOTHING;
    if (type === TYPE.errorResponse && this.#flow.failed() && !isFatal(message)) return NOTHING;
    if (type === TYPE.errorResponse) {
      const { W: context = '', ...fields } = errorFields(message);
      if (OWN_CONTEXT.test(context)) return errorResponse(fields);
    }
    if (type === TYPE.readyForQuery) {
      this.#hasBegun = true;
      if (this.#flow.ready(message[5] as number)) return NOTHING;
    }
    if (type === TYPE.parameterStatus && this.#hasBegun && !HARMLESS.has(parameterStatus(message).name)) this.#disown();
    return this.#answers.wants(type) ? this.#answers.exchange(message) : null;
  }

  /** `key`: the process and the secret that its client knows it by. */
  isOf(key: Buffer): boolean {
    return this.#key?.equals(key) === true;
  }

  /** False: nothing of it is executed elsewhere that could be cancelled. */
  cancel(): boolean {
    const current = this.#running;
    if (current === null) return false;
    current.isCancelled = true;
    if (!current.running.cancel()) return true;
    const parsed = current.unit.parsedAs === null ? [] : [PARSE_COMPLETE];
    this.#client.write(Buffer.concat([...parsed, USER_CANCELLED, READY_IDLE]));
    this.#over(current.unit, 'done');
    return true;
  }

  toHome(bytes: Buffer): void {
    this.#out.push(bytes);
  }

  saw(text: string | null): void {
    if (!this.#isOrdinary) return;
    if (this.#unread.size >= UNREAD_MAX) this.#read();
    if (text === null || this.#unread.size >= UNREAD_MAX) this.#isOrdinary = false;
    else this.#unread.add(text);
  }

  isCandidate(prepared: Prepared): boolean {
    if (!this.#isOrdinary) return false;
    if (this.#own !== null) return this.#routeOf(prepared, this.#own.settings) !== null;
    // Whatever it is: its settings are asked for then.
    return this.#askedMs === null && performance.now() >= this.#askAgainMs;
  }

  tryElsewhere(unit: Unit): boolean {
    const own = this.#ownNow();
    const route = own && this.#routeOf(unit.prepared, own.settings);
    // Who does not take what there is already is not sent more from elsewhere: home waits for him.
    if (!own || !route || this.#client.writableNeedDrain || this.#homeHasEnded) return false;
    const key = keyIn(route, unit);
    const place = key && route.place(key);
    if (!place) return false;
    const execution = this.#execution(unit, route, place);
    const running = own.pool.execute(place.node, route.isOneRow, execution);
    this.#running = running && { unit, running, isCancelled: false };
    return running !== null;
  }

  #execution(unit: Unit, route: Route, { pid, node }: { pid: number; node: number }): Execution {
    const { hinge, statement } = route.at(pid);
    return {
      statement,
      bind: unit.bind,
      bound: unit.bound,
      describes: unit.describes,
      saysParsed: unit.parsedAs !== null,
      answer: (bytes) => {
        if (this.#client.write(bytes) || route.isOneRow) return true;
        this.#client.once('drain', () => this.#running?.running.resume());
        return false;
      },
      exchange: (message) => {
        if (message[0] === TYPE.rowDescription) return withTable(message, route.oid);
        return this.#cancelledByOthers(message, node) ?? inClientsText(message, route, hinge);
      },
      notHere: () => this.#over(unit, 'atHome'),
      done: (wasParsed) => this.#over(unit, wasParsed ? 'done' : 'unparsed'),
      lost: (loss) => this.#lost(unit, route, node, loss),
    };
  }

  #lost(unit: Unit, route: Route, node: number, { why, answered, saidParsed, isTorn }: Loss): void {
    if (!answered && route.point.kind === 'read') this.#over(unit, 'atHome');
    // Within a message nothing else can be said.
    else if (isTorn) this.#client.destroy();
    else {
      this.#client.write(Buffer.concat([lostOn(node, route, why), READY_IDLE]));
      this.#over(unit, saidParsed ? 'done' : 'unparsed');
    }
  }

  /** Deadlocks over several nodes are ended so. */
  #cancelledByOthers(message: Buffer, node: number): Buffer | null {
    if (this.#running?.isCancelled !== false || errorFields(message).M !== CANCELLED) return null;
    return asDeadlock(message, `The statement was cancelled at node ${node}, which ends deadlocks over several nodes.`);
  }

  #routeOf(prepared: Prepared, own: OwnSettings): Route | null {
    const { router } = this.#routing;
    const known = this.#known.get(prepared);
    if (known?.generation === router.generation && known.own === own) return known.route;
    const found = router.route(prepared.text, prepared.types, own.schemas);
    const tid = known?.tid ?? found?.point.tid ?? null;
    // What the client knows of its columns was said of another table.
    const route = found?.point.tid === tid ? found : null;
    this.#known.set(prepared, { generation: router.generation, own, route, tid });
    return route;
  }

  /**
   * Reads what was executed at home since, and asks home where that is not enough. Null: it is not known
   * now.
   */
  #ownNow(): { readonly settings: OwnSettings; readonly pool: ServerPool } | null {
    if (!this.#routing.router.isFresh) return null;
    this.#read();
    if (!this.#isOrdinary) return null;
    const nowMs = performance.now();
    const ageMs = this.#own === null ? Number.POSITIVE_INFINITY : nowMs - this.#own.atMs;
    if (ageMs > FRESH_MS / 2 && this.#askedMs === null) {
      this.#askedMs = nowMs;
      this.#flow.ask(ASK_OWN);
    }
    return ageMs > FRESH_MS ? null : this.#own;
  }

  /** What the texts that were executed at home have left, as soon as it is known what they name. */
  #read(): void {
    const own = this.#own;
    if (own === null || this.#unread.size === 0 || !this.#routing.router.knowsTables) return;
    const texts = [...this.#unread];
    const effects = texts.map((text) => this.#routing.effectOf(text, own.settings.schemas));
    if (effects.includes('unknown')) this.#isOrdinary = false;
    this.#unread.clear();
    if (!effects.includes('settings')) return;
    // Tables may have been others since: the rest is read again with what is in force then.
    for (const [i, text] of texts.entries()) if (effects[i] !== 'settings') this.#unread.add(text);
    this.#disown();
  }

  /** What it was is no longer so. */
  #disown(): void {
    if (this.#own !== null) this.#routing.giveBack(this.#own.settings);
    this.#own = null;
    this.#askAgainMs = 0;
    this.#isAnswerVoid = this.#askedMs !== null;
  }

  /** Of the answer to what the session is. */
  #hear(type: number, message: Buffer): void {
    if (type === TYPE.dataRow) this.#answer = firstColumn(message);
    if (type !== TYPE.readyForQuery) return;
    this.#flow.ready(message[5] as number);
    const [answer, atMs, roleAsked] = [this.#answer, this.#askedMs, this.#roleAsked];
    this.#answer = null;
    // It was asked when nothing else was under way.
    if (roleAsked !== null && this.#askedMs === null) {
      this.#roleAsked = null;
      roleAsked(answer === this.#routing.clientsRole);
      return;
    }
    this.#askedMs = null;
    const isVoid = this.#isAnswerVoid;
    this.#isAnswerVoid = false;
    if (atMs === null || isVoid || !this.#isOrdinary) return;
    const settings = answer === null ? null : readOwnSettings(answer);
    if (this.#own && settings && areSame(settings, this.#own.settings)) {
      this.#own = { ...this.#own, atMs };
      return;
    }
    this.#disown();
    const pool = settings && this.#routing.take(settings);
    if (settings && pool) this.#own = { settings, pool, atMs };
    // Until then, or until something is set in it.
    else this.#askAgainMs = atMs + FRESH_MS;
  }

  #over(unit: Unit, outcome: 'done' | 'atHome' | 'unparsed'): void {
    this.#running = null;
    clearTimeout(this.#goneTimer);
    if (this.#client.destroyed) return;
    for (const bytes of this.#held.splice(0)) this.#client.write(bytes);
    this.#flow.elsewhere(unit, outcome);
    this.#goOn();
  }

  /** As of what is known of the session now. */
  #explain(statement: string): readonly string[] {
    const { router } = this.#routing;
    if (!router.isFresh) return routeLines({ because: 'the node has heard nothing of the tables lately' });
    const schemas = this.#own?.settings.schemas ?? DEFAULT_SCHEMAS;
    const isOrdinary =
      this.#isOrdinary && ![...this.#unread].some((text) => this.#routing.effectOf(text, schemas) === 'unknown');
    if (!isOrdinary) return routeLines({ because: 'the session has used what is not distributed, or unknown' });
    return routeLines(router.routeOrReason(statement, [], schemas));
  }

  /** Only alone, and by whoever the session acts as by now. */
  #perform(what: Work, done: (outcome: Outcome) => void, node: NodeWork): void {
    if (!this.#flow.isQuiet) {
      this.#after(Promise.resolve(NOT_QUIET), done);
      return;
    }
    const isClients = new Promise<boolean>((resolve) => {
      this.#roleAsked = resolve;
    });
    this.#flow.ask(ASK_ROLE);
    this.#flush();
    this.#after(
      isClients.then((may) => (may ? node.perform(what) : NO_RIGHT)),
      done,
    );
  }

  /** The client's messages go on when the node has done its part. */
  #after<T>(work: Promise<T>, done: (outcome: T) => void): void {
    void work.then((outcome) => {
      if (this.#client.destroyed) return;
      done(outcome);
      this.#goOn();
    });
  }

  #goOn(): void {
    this.#flush();
    if (this.#isWaiting) return;
    clearTimeout(this.#goneTimer);
    if (this.#homeHasEnded) this.#client.destroySoon();
    else if (this.#clientHasEnded) this.#home.end();
    if (this.#client.isPaused() && this.#waitingBytes <= WAITING_BYTES_MAX && !this.#home.writableNeedDrain)
      this.#client.resume();
  }

  get #isWaiting(): boolean {
    return this.#flow.isElsewhere || this.#gate.isWaiting;
  }

  get #waitingBytes(): number {
    return this.#flow.waitingBytes + this.#gate.waitingBytes;
  }

  #flush(): void {
    if (this.#out.length === 0) return;
    const bytes = this.#out.length === 1 ? (this.#out[0] as Buffer) : Buffer.concat(this.#out);
    this.#out = [];
    if (this.#home.write(bytes)) return;
    this.#client.pause();
    this.#home.once('drain', () => this.#client.resume());
  }
}

/** What is said of the cluster comes from functions that are nothing to the client. */
const OWN_CONTEXT = /^PL\/pgSQL function tide\.(checked|known|refuse)\(/;
/** Of SET ROLE only the server knows. */
const ASK_ROLE = questionOf('SELECT current_user::pg_catalog.text', 'tide role');
/** Before the session was asked. */
const DEFAULT_SCHEMAS = ['public'];
const NOTHING = Buffer.alloc(0);
const USER_CANCELLED = errorResponse({ S: 'ERROR', V: 'ERROR', C: '57014', M: CANCELLED });
function areSame(a: OwnSettings, b: OwnSettings): boolean {
  return a.values === b.values && a.schemas.join('\0') === b.schemas.join('\0');
}
