import { changedTopology, type Topology, type TopologyChange } from '../routing/topology.ts';
import type { ServerAddress } from './messages.ts';
import { Router } from './router.ts';
import { ServerPool } from './servers/pool.ts';
import type { SessionPorts } from './session/session.ts';

/**
 * What a client may say in its startup message and have its statements routed: the same is said to other
 * servers for it. In small letters.
 */
const PASSED_ON = new Set([
  ...['user', 'database', 'client_encoding', 'datestyle', 'intervalstyle', 'timezone', 'extra_float_digits'],
]);
const NOT_PASSED_ON = new Set(['application_name']);
const UTF8 = /^'?utf-?8'?$/i;

/** What sessions are routed with: for all sessions of a role with the same settings together. */
export class Routing {
  #topology: Topology | null = null;
  #home: ServerAddress | null = null;
  readonly #bySettings = new Map<string, SessionPorts>();

  useTopology(change: TopologyChange): void {
    this.#topology = changedTopology(this.#topology, change) ?? this.#topology;
    const gone = [...change.nodesGone, ...change.nodes.filter((node) => node.isOut).map(({ id }) => id)];
    for (const { pool } of this.#bySettings.values()) for (const node of gone) pool.leave(node);
  }

  /** Null: these sessions are passed through. */
  for(parameters: ReadonlyMap<string, string>, home: ServerAddress, peer: string): SessionPorts | null {
    this.#home = home;
    const said = new Map<string, string>();
    for (const [name, value] of parameters) {
      const small = name.toLowerCase();
      if (small === 'client_encoding' && !UTF8.test(value)) return null;
      if (PASSED_ON.has(small)) said.set(name, value);
      else if (!NOT_PASSED_ON.has(small)) return null;
    }
    const key = JSON.stringify([...said].sort());
    const known = this.#bySettings.get(key) ?? this.#make(said, peer);
    this.#bySettings.set(key, known);
    return known;
  }

  #make(parameters: ReadonlyMap<string, string>, peer: string): SessionPorts {
    const router = new Router();
    const pool = new ServerPool({
      parameters,
      peer,
      home: () => this.#home,
      addressOf: (node) => {
        const at = this.#topology?.nodes.get(node);
        return at ? { host: at.postgresHost, port: at.postgresPort } : null;
      },
    });
    return { router, pool, refresh: () => router.use(this.#topology, pool.facts) };
  }
}
