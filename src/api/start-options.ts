/**
 * What `tide start` and `tide demo` were asked for: flags as parsed and checked for form, before anything is
 * opened.
 */

/** One node. Addresses are HOST:PORT; `store` is a directory. */
export interface StartOptions {
  store: string;
  listenAddr: string;
  httpAddr: string;
  /** What other nodes and clients use; `listenAddr` where absent. */
  advertiseAddr?: string;
  /** More names under which HTTP may reach this node. */
  hostNames?: string[];
  /** Addresses of live nodes; empty starts a new cluster. */
  join: string[];
  insecure: boolean;
  /**
   * `etcd://…` where the cluster's facts are to be; where absent a new cluster keeps them in its first node.
   */
  meta?: string;
  /** `key=value,…`, most general first. */
  locality?: string;
  /** `ssd,…` */
  attrs?: string;
  /** The listen port + 1000 where absent. */
  postgresPort?: number;
  /** Directory with `postgres` and `initdb`; the embedded PostgreSQL where absent. */
  postgresBin?: string;
  /** PostgreSQL sessions that the listen port lets in at once; 200 where absent. */
  maxClients?: number;
  /** Processes that serve SQL sessions; one per core where absent. */
  workers?: number;
  singleReplica: boolean;
  /** First value of the setting `min_nodes`; only for the node that starts a cluster. */
  minNodes?: number;
  background: boolean;
}

export interface DemoOptions {
  /** Stop everything after the proof instead of leaving the cluster up until Ctrl-C. */
  exit: boolean;
  /** File for the result as JSON. */
  report?: string;
  /** Rows to load; all cities where absent. */
  rows?: number;
  /** How long the traffic lasts at least. */
  seconds?: number;
}
