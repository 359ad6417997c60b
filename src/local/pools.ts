import pg from 'pg';

/** Sessions with one node, kept for reuse: each pool is made when it is asked for first. */
export class NodePools {
  readonly #node: { readonly host: string; readonly address: string; readonly postgresPort: number };
  #sql: pg.Pool | null = null;
  #postgres: pg.Pool | null = null;
  #manager: pg.Pool | null = null;

  constructor(node: { readonly host: string; readonly address: string; readonly postgresPort: number }) {
    this.#node = node;
  }

  get sql(): pg.Pool {
    this.#sql ??= open(this.#node.host, Number(this.#node.address.split(':')[1]));
    return this.#sql;
  }

  get postgres(): pg.Pool {
    this.#postgres ??= open(this.#node.host, this.#node.postgresPort);
    return this.#postgres;
  }

  get manager(): pg.Pool {
    this.#manager ??= open(this.#node.host, this.#node.postgresPort, 'tide_manager');
    return this.#manager;
  }

  /** Who asks later gets new ones. */
  async close(): Promise<void> {
    const pools = [this.#sql, this.#postgres, this.#manager];
    this.#sql = null;
    this.#postgres = null;
    this.#manager = null;
    await Promise.all(pools.map((pool) => pool?.end()));
  }
}

function open(host: string, port: number, user = 'tide'): pg.Pool {
  const pool = new pg.Pool({
    host,
    port,
    user,
    database: 'tide',
    max: 10,
    connectionTimeoutMillis: 10_000,
    application_name: 'tide-local',
  });
  // A server that goes away ends connections, idle or in use: the next use says so or opens new ones.
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}
