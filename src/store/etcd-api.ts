/**
 * The calls of etcd's JSON gateway (etcd documentation, "gRPC gateway", /v3) that a meta store needs, in
 * etcd's own words. Keys and values are base64, revisions and leases are decimal numbers in texts.
 */

/** gRPC: not found. */
const NOT_FOUND = 5;

interface Header {
  revision: string;
}

export interface KeyValue {
  key: string;
  value?: string;
  mod_revision: string;
}

export interface RangeRequest {
  key: string;
  /** All from `key` up to here, without it; the key alone where left out. */
  range_end?: string;
  limit?: number;
  /** As it was then. */
  revision?: string;
}

export interface RangeAnswer {
  header: Header;
  /** Left out where there is none. */
  kvs?: KeyValue[];
  more?: boolean;
}

export interface Compare {
  key: string;
  target: 'MOD';
  result: 'EQUAL';
  mod_revision: string;
}

export type Operation =
  | { request_range: RangeRequest }
  | { request_put: { key: string; value: string; lease?: string } }
  | { request_delete_range: { key: string } }
  | { request_txn: { success: Operation[] } };

export interface TxnRequest {
  compare: Compare[];
  success: Operation[];
  failure: Operation[];
}

export interface TxnAnswer {
  header: Header;
  succeeded?: boolean;
  responses?: { response_range?: RangeAnswer }[];
}

/** Carries a call to an etcd and gives back what it says. Throws META_UNREACHABLE, EtcdRefusal. */
export type EtcdTransport = (path: string, body: object) => Promise<Record<string, unknown>>;

/** etcd's answer that something was wrong with the request itself: another server would say the same. */
export class EtcdRefusal extends Error {
  /** gRPC status. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Every call throws what the transport throws. */
export class EtcdApi {
  readonly #transport: EtcdTransport;

  constructor(transport: EtcdTransport) {
    this.#transport = transport;
  }

  async range(request: RangeRequest): Promise<RangeAnswer> {
    return (await this.#transport('kv/range', request)) as unknown as RangeAnswer;
  }

  async txn(request: TxnRequest): Promise<TxnAnswer> {
    return (await this.#transport('kv/txn', request)) as unknown as TxnAnswer;
  }

  /** The id of a new lease. */
  async grant(seconds: number): Promise<string> {
    return String((await this.#transport('lease/grant', { TTL: String(seconds) })).ID);
  }

  /** False where the lease has ended. */
  async keepAlive(lease: string): Promise<boolean> {
    const { result } = (await this.#transport('lease/keepalive', { ID: lease })) as { result?: { TTL?: string } };
    return Number(result?.TTL ?? 0) > 0;
  }

  /** Ends a lease, where it has not ended yet. */
  async revoke(lease: string): Promise<void> {
    await this.#transport('lease/revoke', { ID: lease }).catch((error) => {
      if (!(error instanceof EtcdRefusal) || error.status !== NOT_FOUND) throw error;
    });
  }
}
