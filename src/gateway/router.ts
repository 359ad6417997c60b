import { FIRST_USER_OID, partitionTable, SCHEMAS } from '../catalog/names.ts';
import { type KeyHash, keyHash } from '../routing/hash.ts';
import type { Topology, TopologyTable } from '../routing/topology.ts';
import { type NotRouted, type PointStatement, pointStatement } from '../sql/point.ts';
import type { HomeTables } from './servers/home-tables.ts';
import type { Statement } from './servers/server-connection.ts';
import type { Slice } from './wire/extended.ts';

/** How a statement is executed where its rows are. */
export interface Route {
  readonly point: PointStatement;
  /** The table's oid at home. */
  readonly oid: number;
  /** A SELECT of one row at most. */
  readonly isOneRow: boolean;
  /** The partition of a key, and the node that leads it. Null: it cannot be told here. */
  place(key: { bytes: Buffer } & Slice): { pid: number; node: number } | null;
  /** For whoever leads that partition. */
  at(pid: number): { readonly hinge: string; readonly statement: Statement };
}

/** What a session may be told of routes: `generation` of the router for which it is true. */
export interface KnownRoute {
  readonly generation: number;
  readonly route: Route | null;
}

/** Texts that are remembered; beyond them all are forgotten. */
const TEXTS_MAX = 5_000;
const TEXT_CHARS_MAX = 10_000;

/**
 * Which statements one partition can answer. Remembers what it has found out, until a table or what home
 * says of tables has changed.
 */
export class Router {
  #topology: Topology | null = null;
  #home: HomeTables | null = null;
  #byName: ReadonlyMap<string, TopologyTable[]> = new Map();
  #known = new Map<string, Route | NotRouted>();
  #generation = 0;
  #isFresh = false;

  /** `home`: null where what it has said before is too old. */
  use(topology: Topology | null, home: HomeTables | null): void {
    if (topology !== this.#topology) this.#useTopology(topology);
    this.#isFresh = topology !== null && home !== null;
    if (home === null || home === this.#home) return;
    this.#home = home;
    this.#forget();
  }

  /** Statements may be routed. */
  get isFresh(): boolean {
    return this.#isFresh;
  }

  /** It can say which tables there are, as of not long ago. */
  get knowsTables(): boolean {
    return this.#topology !== null && this.#home !== null;
  }

  /** Another one: what was said before counts no more. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * Null: it is executed at home. `types` as the client has declared them, `schemas` where its session
   * looks.
   */
  route(text: string, types: readonly number[], schemas: readonly string[]): Route | null {
    const found = this.routeOrReason(text, types, schemas);
    return 'because' in found ? null : found;
  }

  /** As `route`, or why it is executed at home. */
  routeOrReason(text: string, types: readonly number[], schemas: readonly string[]): Route | NotRouted {
    // It has another oid elsewhere.
    if (types.some((type) => type >= FIRST_USER_OID)) return { because: 'a parameter’s type is a user’s' };
    if (text.length > TEXT_CHARS_MAX) return { because: `it has more than ${TEXT_CHARS_MAX} characters` };
    const key = `${types.join()}\0${schemas.join('\0')}\0\0${text}`;
    let route = this.#known.get(key);
    if (route === undefined) {
      if (this.#known.size >= TEXTS_MAX) this.#known.clear();
      route = this.#find(text, types, schemas);
      this.#known.set(key, route);
    }
    return route;
  }

  /** A distributed table; null: it is none, or nobody knows whether it is meant. */
  table(schema: string | null, name: string, schemas: readonly string[]): TopologyTable | null {
    const called = this.#byName.get(name) ?? [];
    if (schema !== null) return called.find((table) => table.schema === schema) ?? null;
    const others = this.#home?.others.get(name);
    for (const each of schemas) {
      const found = called.find((table) => table.schema === each);
      if (found || others?.has(each)) return found ?? null;
    }
    return null;
  }

  /** Whether a function or an operator that somebody has made is called so. */
  isUsers(name: string): boolean {
    return this.#home?.userNames.has(name) ?? true;
  }

  #forget(): void {
    this.#known.clear();
    this.#generation += 1;
  }

  #useTopology(topology: Topology | null): void {
    const definitions = (t: Topology | null) =>
      JSON.stringify([...(t?.tables.values() ?? [])].map(({ partitions, ...rest }) => [rest, partitions.length]));
    const isSame = definitions(topology) === definitions(this.#topology);
    this.#topology = topology;
    if (isSame) return;
    const byName = new Map<string, TopologyTable[]>();
    for (const table of topology?.tables.values() ?? [])
      byName.set(table.name, [...(byName.get(table.name) ?? []), table]);
    this.#byName = byName;
    this.#forget();
  }

  #find(text: string, types: readonly number[], schemas: readonly string[]): Route | NotRouted {
    const point = pointStatement(text, (schema, name) => this.table(schema, name, schemas));
    if ('because' in point) return point;
    const hash = keyHash(point.keyType);
    const table = this.#topology?.tables.get(point.tid);
    const home = this.#home?.tables.get(point.tid);
    if (hash === null || table === undefined || home === undefined) return { because: 'the table is new or going' };
    if (!home.isSameEverywhere) return { because: 'the table has types or defaults that differ from node to node' };
    if (point.kind === 'read' ? !home.mayRead : !home.mayWrite) return { because: 'a right on the table is missing' };
    for (const name of point.uses) if (this.isUsers(name)) return { because: `somebody has made a ${name} of his own` };
    if ('parameter' in point.key) {
      const type = types[point.key.parameter - 1] ?? 0;
      if (type !== 0 && !hash.parameterTypes.includes(type))
        return { because: 'the key’s parameter has another type than the key' };
    }
    const isOneRow =
      point.kind === 'read' && table.primaryKey.length === 1 && table.primaryKey[0] === table.distributeBy;
    const place: Route['place'] = (key) => this.#place(point.tid, hash, key);
    return { point, oid: home.oid, isOneRow, place, at: statements(point, types) };
  }

  #place(tid: number, hash: KeyHash, key: { bytes: Buffer } & Slice): { pid: number; node: number } | null {
    const partitions = this.#topology?.tables.get(tid)?.partitions;
    if (partitions === undefined) return null;
    const pid = hash.partition(partitions.length, key.bytes, key.start, key.end, key.isBinary);
    const partition = pid === null ? undefined : partitions[pid];
    return partition === undefined ? null : { pid: partition.pid, node: partition.leader };
  }
}

/** Written once for each partition. */
function statements(point: PointStatement, types: readonly number[]): Route['at'] {
  const written: ReturnType<Route['at']>[] = [];
  return (pid) => {
    const known = written[pid];
    if (known !== undefined) return known;
    const hinge = `${SCHEMAS.hinge}.${partitionTable(point.tid, pid)}`;
    const text = point.on(hinge);
    const made = { hinge, statement: { text, types, key: `${types.join()} ${text}` } };
    written[pid] = made;
    return made;
  };
}
