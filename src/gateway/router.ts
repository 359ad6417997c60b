import { type KeyHash, keyHash } from '../routing/hash.ts';
import type { Topology, TopologyTable } from '../routing/topology.ts';
import { type PointStatement, pointStatement } from '../sql/point.ts';
import { FIRST_USER_OID, type HomeFacts, tableKey } from './servers/home-facts.ts';
import type { Slice } from './wire/extended.ts';

/** How a statement is executed where its rows are. */
export interface Route {
  readonly point: PointStatement;
  /** The table's oid at home. */
  readonly oid: number;
  readonly hash: KeyHash;
  /** A SELECT of one row at most. */
  readonly isShared: boolean;
}

/** Texts that are remembered; beyond them all are forgotten. */
const TEXTS_MAX = 5_000;
const TEXT_CHARS_MAX = 10_000;

/**
 * Which statements one partition can answer, for sessions whose names mean the same. Remembers what it has
 * found out, until a table or what home says of tables has changed.
 */
export class Router {
  #topology: Topology | null = null;
  #facts: HomeFacts | null = null;
  #byName: ReadonlyMap<string, TopologyTable> = new Map();
  readonly #known = new Map<string, Route | null>();

  use(topology: Topology | null, facts: HomeFacts | null): void {
    if (topology !== this.#topology) this.#useTopology(topology);
    if (facts === this.#facts) return;
    if (JSON.stringify([...(facts?.tables ?? [])]) !== JSON.stringify([...(this.#facts?.tables ?? [])]))
      this.#known.clear();
    this.#facts = facts;
  }

  /** Null: it is executed at home. `types` as the client has declared them. */
  route(text: string, types: readonly number[]): Route | null {
    if (types.some((type) => type >= FIRST_USER_OID) || text.length > TEXT_CHARS_MAX) return null;
    const key = `${types.join()} ${text}`;
    let route = this.#known.get(key);
    if (route === undefined) {
      if (this.#known.size >= TEXTS_MAX) this.#known.clear();
      route = this.#find(text, types);
      this.#known.set(key, route);
    }
    return route;
  }

  /** The partition of a key, and the node that leads it. Null: it cannot be told here. */
  place({ point, hash }: Route, key: { bytes: Buffer } & Slice): { pid: number; node: number } | null {
    const partitions = this.#topology?.tables.get(point.tid)?.partitions;
    if (partitions === undefined) return null;
    const pid = hash.partition(partitions.length, key.bytes, key.start, key.end, key.isBinary);
    const partition = pid === null ? undefined : partitions[pid];
    return partition === undefined ? null : { pid: partition.pid, node: partition.leader };
  }

  #useTopology(topology: Topology | null): void {
    const definitions = (t: Topology | null) =>
      JSON.stringify([...(t?.tables.values() ?? [])].map(({ partitions, ...rest }) => [rest, partitions.length]));
    if (definitions(topology) !== definitions(this.#topology)) this.#known.clear();
    this.#topology = topology;
    this.#byName = new Map([...(topology?.tables.values() ?? [])].map((t) => [tableKey(t.schema, t.name), t]));
  }

  #find(text: string, types: readonly number[]): Route | null {
    const point = pointStatement(text, (schema, name) => this.#table(schema, name));
    if ('because' in point) return null;
    const hash = keyHash(point.keyType);
    const table = this.#topology?.tables.get(point.tid);
    const home = table && this.#facts?.tables.get(tableKey(table.schema, table.name));
    if (hash === null || table === undefined || home === undefined || !home.isPlain) return null;
    if ('parameter' in point.key) {
      const type = types[point.key.parameter - 1] ?? 0;
      if (type !== 0 && !hash.parameterTypes.includes(type)) return null;
    }
    const isOneRow = table.primaryKey.length === 1 && table.primaryKey[0] === table.distributeBy;
    return { point, oid: home.oid, hash, isShared: point.kind === 'read' && isOneRow };
  }

  #table(schema: string | null, name: string): TopologyTable | null {
    if (schema !== null) return this.#byName.get(tableKey(schema, name)) ?? null;
    for (const table of this.#topology?.tables.values() ?? []) {
      if (table.name === name && this.#facts?.tables.get(tableKey(table.schema, name))?.isVisible) return table;
    }
    return null;
  }
}
