import { changedTopology, type Topology, type TopologyChange } from '../routing/topology.ts';
import { type Effect, effectOf } from '../sql/effect.ts';
import type { Identity, ServerAddress } from './messages.ts';
import { Router } from './router.ts';
import { HomeTablesWatch } from './servers/home-tables.ts';
import { ServerPool } from './servers/pool.ts';
import { type OwnSettings, VALUES_QUESTION } from './session/own-settings.ts';

/** Settings that sessions have, at once, in a worker. */
const POOLS_MAX = 20;
/** Connections to a node, of all workers together. */
const SHARED_MAX = 8;
const OWN_MAX = 32;
/** Texts whose effect is remembered; beyond them all are forgotten. */
const EFFECTS_MAX = 5_000;
/** Only a superuser may set them: they are compared. */
const NOT_SAID: ReadonlySet<string> = new Set(['session_replication_role', 'lc_messages']);

interface Used {
  readonly pool: ServerPool;
  users: number;
}

/** What the sessions of a worker are routed with. */
export class Routing {
  readonly #workers: number;
  readonly #pools = new Map<string, Used>();
  readonly #router = new Router();
  /** By schemas and text, for a generation of the router. */
  readonly #effects = new Map<string, Effect>();
  #effectsOf = 0;
  #topology: Topology | null = null;
  #identity: Identity | null = null;
  #home: ServerAddress | null = null;
  #homeTables: HomeTablesWatch | null = null;

  /** `workers`: of the node. */
  constructor(workers: number) {
    this.#workers = workers;
  }

  useTopology(change: TopologyChange): void {
    this.#topology = changedTopology(this.#topology, change) ?? this.#topology;
    const gone = [...change.nodesGone, ...change.nodes.filter((node) => node.isOut).map(({ id }) => id)];
    for (const { pool } of this.#pools.values()) for (const node of gone) pool.leave(node);
  }

  /** A session has begun that may be routed. */
  begin(home: ServerAddress, identity: Identity): void {
    this.#home = home;
    if (this.#homeTables !== null) return;
    this.#identity = identity;
    this.#homeTables = new HomeTablesWatch(identity.role, identity.database, () => this.#home);
    this.#homeTables.refresh();
  }

  /** Whom sessions that are routed belong to; null: there was none yet. */
  get clientsRole(): string | null {
    return this.#identity?.role ?? null;
  }

  /** What a text leaves in a session that looks in these schemas. */
  effectOf(text: string, schemas: readonly string[]): Effect {
    const { router } = this;
    if (router.generation !== this.#effectsOf || this.#effects.size >= EFFECTS_MAX) {
      this.#effects.clear();
      this.#effectsOf = router.generation;
    }
    const key = `${schemas.join('\0')}\0\0${text}`;
    const known = this.#effects.get(key);
    if (known !== undefined) return known;
    const effect = effectOf(text, {
      isDistributed: (schema, name) => router.table(schema, name, schemas) !== null,
      isUsers: (name) => router.isUsers(name),
    });
    this.#effects.set(key, effect);
    return effect;
  }

  /** As of now. */
  get router(): Router {
    this.#router.use(this.#topology, this.#homeTables?.tables ?? null);
    return this.#router;
  }

  /** For a session with these settings, until it gives it back. Null: there are too many of them. */
  take({ values }: OwnSettings): ServerPool | null {
    const used = this.#pools.get(values) ?? this.#make(values);
    if (used !== null) used.users += 1;
    return used?.pool ?? null;
  }

  giveBack({ values }: OwnSettings): void {
    const used = this.#pools.get(values);
    if (used !== undefined) used.users -= 1;
  }

  #make(values: string): Used | null {
    if (this.#identity === null) return null;
    if (this.#pools.size >= POOLS_MAX) this.#closeUnused();
    if (this.#pools.size >= POOLS_MAX) return null;
    const pool = new ServerPool({
      parameters: parametersOf(values, this.#identity),
      check: { question: VALUES_QUESTION, answer: values },
      addressOf: (node) => {
        const at = this.#topology?.nodes.get(node);
        return at ? { host: at.postgresHost, port: at.postgresPort } : null;
      },
      sharedMax: Math.max(1, Math.floor(SHARED_MAX / this.#workers)),
      ownMax: Math.max(1, Math.floor(OWN_MAX / this.#workers)),
    });
    const used = { pool, users: 0 };
    this.#pools.set(values, used);
    return used;
  }

  #closeUnused(): void {
    for (const [values, { pool, users }] of this.#pools) {
      if (users > 0) continue;
      pool.close();
      this.#pools.delete(values);
    }
  }
}

/**
 * With which connections to servers begin: as the role of other nodes, with the settings of a session. On a
 * hinge with its one child the defect of PostgreSQL 18.4 cannot strike for which servers plan anew each time
 * (`postgres/config.ts`), and generic plans are two to three times as fast.
 */
function parametersOf(values: string, { peer, database }: Identity): ReadonlyMap<string, string> {
  const said = Object.entries(JSON.parse(values) as Record<string, string>).filter(([name]) => !NOT_SAID.has(name));
  const own = { role: 'none', search_path: 'pg_catalog', plan_cache_mode: 'auto', application_name: 'tide gateway' };
  return new Map([...said, ...Object.entries({ ...own, user: peer, database })]);
}
