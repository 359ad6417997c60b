import type { Socket } from 'node:net';
import { partitionTable, SCHEMAS } from '../../catalog/names.ts';
import { leavesSession } from '../../sql/leaves-session.ts';
import type { SessionAnswers } from '../deadlock-answers.ts';
import type { Route, Router } from '../router.ts';
import type { ServerPool } from '../servers/pool.ts';
import type { Execution } from '../servers/server-connection.ts';
import { ClientFrames } from '../wire/client-frames.ts';
import { parameterOf, type Slice } from '../wire/extended.ts';
import {
  cancelKey,
  errorFields,
  errorResponse,
  parameterStatus,
  READY_IDLE,
  TYPE,
  withTable,
} from '../wire/messages.ts';
import { type Onlooker, ServerFrames } from '../wire/server-frames.ts';
import { Flow, type FlowPorts, type Prepared, type Unit } from './flow.ts';

export interface SessionPorts {
  readonly router: Router;
  readonly pool: ServerPool;
  /** Brings the router up to date, as long as that takes no time. */
  refresh(): void;
}

/** Texts that were executed at home and not read yet. More of them, and nobody finds out any more. */
const UNREAD_MAX = 200;
/** So much may wait behind a statement that is executed elsewhere before the client is made to wait. */
const WAITING_BYTES_MAX = 256 << 10;
/** PostgreSQL reports these settings; a client may change it without being another session for it. */
const HARMLESS = new Set(['application_name', 'in_hot_standby', 'is_superuser']);

/**
 * A client's session: its own server, where it is at home, and the statements that are executed where their
 * rows are. That holds as long as the session is as it began: whatever might change what names or values
 * mean in it (SET, temporary tables, functions of somebody's) keeps it at home from then on.
 */
export class Session implements FlowPorts, Onlooker {
  readonly #client: Socket;
  readonly #home: Socket;
  readonly #ports: SessionPorts;
  readonly #answers: SessionAnswers;
  readonly #flow: Flow = new Flow(this);
  readonly #clientFrames = new ClientFrames(this.#flow);
  readonly #homeFrames = new ServerFrames(this);
  #out: Buffer[] = [];
  #unread: string[] = [];
  #isAsBegun = true;
  #hasBegun = false;
  #settings: string | null = null;
  #key: Buffer | null = null;
  #cancel: (() => void) | null = null;

  constructor(client: Socket, home: Socket, answers: SessionAnswers, ports: SessionPorts) {
    this.#client = client;
    this.#home = home;
    this.#answers = answers;
    this.#ports = ports;
  }

  /** What the client has sent after its startup message. */
  fromClient(piece: Buffer): void {
    this.#clientFrames.take(piece);
    this.#flush();
    if (this.#flow.waitingBytes > WAITING_BYTES_MAX) this.#client.pause();
  }

  /** What the client is to get of what home sends. */
  fromHome(piece: Buffer): Buffer {
    return this.#homeFrames.take(piece);
  }

  wants(type: number): boolean {
    return OURS.has(type) || this.#answers.wants(type);
  }

  exchange(message: Buffer): Buffer | null {
    const type = message[0];
    if (type === TYPE.backendKeyData) this.#key = cancelKey(message);
    if (type === TYPE.parseComplete && this.#flow.parsed()) return NOTHING;
    if (type === TYPE.closeComplete) this.#flow.closed();
    if (type === TYPE.errorResponse && this.#flow.failed()) return NOTHING;
    if (type === TYPE.readyForQuery) {
      this.#hasBegun = true;
      if (this.#flow.ready(message[5] as number)) return NOTHING;
    }
    if (type === TYPE.parameterStatus && this.#hasBegun && !HARMLESS.has(parameterStatus(message).name))
      this.#isAsBegun = false;
    return this.#answers.wants(type as number) ? this.#answers.exchange(message) : null;
  }

  /** `key`: the process and the secret that its client knows it by. */
  isOf(key: Buffer): boolean {
    return this.#key?.equals(key) === true;
  }

  /** False: nothing of it is executed elsewhere that could be cancelled. */
  cancel(): boolean {
    this.#cancel?.();
    return this.#cancel !== null;
  }

  toHome(bytes: Buffer): void {
    this.#out.push(bytes);
  }

  saw(text: string | null): void {
    if (!this.#isAsBegun) return;
    if (text === null || this.#unread.length >= UNREAD_MAX) this.#isAsBegun = false;
    else this.#unread.push(text);
  }

  isCandidate({ text, types }: Prepared): boolean {
    return this.#isAsBegun && this.#route(text, types) !== null;
  }

  tryElsewhere(unit: Unit): boolean {
    const { prepared, bind, bound } = unit;
    if (!this.#isStillAsBegun()) return false;
    const route = this.#route(prepared.text, prepared.types);
    const key = route && keyIn(route, unit);
    const place = route && key && this.#ports.router.place(route, key);
    if (!route || !place) return false;
    const hinge = `${SCHEMAS.hinge}.${partitionTable(route.point.tid, place.pid)}`;
    const execution: Execution = {
      text: route.point.on(hinge),
      types: prepared.types,
      bind,
      bound,
      describes: unit.describes,
      saysParsed: unit.parsedAs !== null,
      answer: (bytes, resume) => {
        if (this.#client.write(bytes) || route.isShared) return true;
        this.#client.once('drain', resume);
        return false;
      },
      exchange: (message) =>
        message[0] === TYPE.rowDescription ? withTable(message, route.oid) : inClientsText(message, route, hinge),
      notHere: () => this.#over(unit, 'atHome'),
      done: (wasParsed) => this.#over(unit, wasParsed ? 'done' : 'unparsed'),
      lost: (answered, why) => {
        if (!answered && route.point.kind === 'read') return this.#over(unit, 'atHome');
        this.#client.write(lostOn(place.node, route, why));
        this.#client.write(READY_IDLE);
        this.#over(unit, 'done');
      },
    };
    const taken = this.#ports.pool.execute(place.node, route.isShared, execution);
    // What takes no longer than a row is not cancelled: others are behind it.
    this.#cancel = taken === null || route.isShared ? null : taken.cancel;
    return taken !== null;
  }

  #route(text: string, types: readonly number[]): Route | null {
    this.#ports.refresh();
    return this.#ports.router.route(text, types);
  }

  /** Reads what was executed at home since. */
  #isStillAsBegun(): boolean {
    const settings = this.#ports.pool.facts?.settings ?? null;
    if (settings === null) return false;
    this.#settings ??= settings;
    // A session whose home has nothing to do must not be ended for that.
    if (this.#settings !== settings || IDLE_LIMIT.test(settings)) this.#isAsBegun = false;
    for (const text of this.#unread.splice(0)) if (!leavesSession(text)) this.#isAsBegun = false;
    return this.#isAsBegun;
  }

  #over(unit: Unit, outcome: 'done' | 'atHome' | 'unparsed'): void {
    this.#cancel = null;
    if (this.#client.destroyed) return;
    this.#flow.elsewhere(unit, outcome);
    this.#flush();
    if (this.#client.isPaused() && this.#flow.waitingBytes <= WAITING_BYTES_MAX && !this.#home.writableNeedDrain)
      this.#client.resume();
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

const NOTHING = Buffer.alloc(0);
const IDLE_LIMIT = /^idle_session_timeout=[^0]/m;
const OURS: ReadonlySet<number> = new Set([
  TYPE.parseComplete,
  TYPE.closeComplete,
  TYPE.errorResponse,
  TYPE.readyForQuery,
  TYPE.parameterStatus,
  TYPE.backendKeyData,
]);

function keyIn({ point }: Route, { bind, bound }: Unit): ({ bytes: Buffer } & Slice) | null {
  if ('literal' in point.key) {
    const bytes = Buffer.from(point.key.literal);
    return { bytes, start: 0, end: bytes.length, isBinary: false };
  }
  const slice = parameterOf(bind, bound, point.key.parameter - 1);
  return slice && { bytes: bind, ...slice };
}

/** The error with the position as it is in the client's own text. */
function inClientsText(message: Buffer, { point }: Route, hinge: string): Buffer {
  const fields = errorFields(message);
  if (fields.P === undefined) return message;
  return errorResponse({ ...fields, P: String(point.positionInOriginal(Number(fields.P), hinge)) });
}

function lostOn(node: number, { point }: Route, why: string): Buffer {
  const outcome =
    point.kind === 'write'
      ? 'whether the statement has taken effect is not known'
      : 'the answer is not whole, and changed nothing';
  return errorResponse({
    S: 'ERROR',
    V: 'ERROR',
    C: '08006',
    M: `the connection to node ${node}, which leads the row, was lost: ${outcome}`,
    D: why,
    H: point.kind === 'write' ? 'look whether the row is as it should be before you repeat it' : 'repeat it',
  });
}
