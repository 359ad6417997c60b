import { randomUUID } from 'node:crypto';
import { tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import {
  type Compare,
  EtcdApi,
  EtcdRefusal,
  type EtcdTransport,
  type KeyValue,
  type Operation,
  type RangeAnswer,
} from './etcd-api.ts';
import { overFetch } from './etcd-transport.ts';
import { parseEtcdUrl } from './etcd-url.ts';
import type { Condition, Entry, SharedStore, Write } from './meta-store.ts';

/**
 * Names the manager's newest transaction: how one whose answer was lost is known to have been applied. Writes
 * under a lease leave it alone: their answer may be `ok: false` although an earlier try has come through.
 * Beside the keys of the store, which begin with a slash.
 */
const WRITER = '!writer';
const PAGE = 500;
/**
 * etcd takes 128 operations in a transaction (`--max-txn-ops`), and in one inside it as many fewer as the
 * outer one has. Three levels of this many are below that.
 */
const GROUP = 40;
/**
 * gRPC: resource exhausted. Beyond `--quota-backend-bytes`, until somebody compacts, defragments and disarms
 * the alarm; said of a request that is too large, too.
 */
const NO_ROOM = 8;

/**
 * The meta store in etcd, through its JSON gateway: shared by all nodes. One instance has one transaction
 * under way at a time.
 */
export class EtcdStore implements SharedStore {
  readonly #api: EtcdApi;
  readonly #prefix: string;
  readonly #writers = new KeyedMutex();
  readonly #session = randomUUID();
  #transactions = 0;
  #isFull = false;

  /** `prefix`: begins every key. */
  constructor(transport: EtcdTransport, prefix: string) {
    this.#api = new EtcdApi(transport);
    this.#prefix = prefix;
  }

  /** Throws META_URL_INVALID; whether anybody answers shows at the first call. */
  static at(url: string): EtcdStore {
    const { endpoints, prefix } = parseEtcdUrl(url);
    return new EtcdStore(overFetch(endpoints), prefix);
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  async get(key: string): Promise<Entry | null> {
    const { kvs = [] } = await this.#said(this.#api.range({ key: this.#name(key) }));
    return kvs[0] ? this.#entry(kvs[0]) : null;
  }

  async range(prefix: string): Promise<Entry[]> {
    const found: Entry[] = [];
    const end = base64(`${this.#prefix}${prefix}\uffff`);
    let from = this.#name(prefix);
    let revision: string | undefined;
    for (;;) {
      const page = { key: from, range_end: end, limit: PAGE, ...(revision === undefined ? {} : { revision }) };
      const { kvs = [], more, header }: RangeAnswer = await this.#said(this.#api.range(page));
      found.push(...kvs.map((raw) => this.#entry(raw)));
      const last = kvs.at(-1);
      if (more !== true || last === undefined) return found;
      revision = header.revision;
      from = base64(`${text(last.key)}\0`);
    }
  }

  async txn({ when, write }: { when: Condition[]; write: Write[] }): Promise<{ ok: boolean; revision: number }> {
    return this.#writers.run('txn', async () => {
      const name = `${this.#session}/${++this.#transactions}`;
      // Who writes under a lease is not the manager, whose mark this is.
      const isLeased = write.some((w) => 'put' in w && w.lease !== undefined);
      const marked = isLeased ? write : [{ put: WRITER, value: name }, ...write];
      const success = grouped(marked.map((w) => this.#operation(w)));
      const compare = when.map((c) => this.#compare(c));
      const failure = [{ request_range: { key: this.#name(WRITER) } }];
      const answer = await this.#said(this.#api.txn({ compare, success, failure }));
      this.#isFull = false;
      const revision = Number(answer.header.revision);
      if (answer.succeeded === true) return { ok: true, revision };
      const newest = answer.responses?.[0]?.response_range?.kvs?.[0];
      // An earlier try has come through: its own writes are what this one's conditions stumbled over.
      if (newest && this.#entry(newest).value === name) return { ok: true, revision: Number(newest.mod_revision) };
      return { ok: false, revision };
    });
  }

  async grant(ttlMs: number): Promise<string> {
    return this.#said(this.#api.grant(Math.ceil(ttlMs / 1000)));
  }

  async keepAlive(lease: string): Promise<boolean> {
    return this.#said(this.#api.keepAlive(lease));
  }

  async revoke(lease: string): Promise<void> {
    await this.#api.revoke(lease);
  }

  async close(): Promise<void> {}

  /** What etcd says, and its refusals in our words. */
  async #said<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof EtcdRefusal)) throw error;
      if (error.status === NO_ROOM && error.message.includes('database space exceeded')) {
        this.#isFull = true;
        throw tideError('META_FULL', { why: error.message }, error);
      }
      throw tideError('META_REFUSED', { why: error.message }, error);
    }
  }

  #name(key: string): string {
    return base64(`${this.#prefix}${key}`);
  }

  #entry(raw: KeyValue): Entry {
    return {
      key: text(raw.key).slice(this.#prefix.length),
      value: JSON.parse(text(raw.value ?? '')),
      revision: Number(raw.mod_revision),
    };
  }

  #compare({ key, revision }: Condition): Compare {
    return { key: this.#name(key), target: 'MOD', result: 'EQUAL', mod_revision: String(revision) };
  }

  #operation(w: Write): Operation {
    if ('delete' in w) return { request_delete_range: { key: this.#name(w.delete) } };
    const value = base64(JSON.stringify(w.value));
    return { request_put: { key: this.#name(w.put), value, ...(w.lease === undefined ? {} : { lease: w.lease }) } };
  }
}

/**
 * More operations than etcd takes at once become transactions inside the one, without conditions of their
 * own.
 */
function grouped(operations: Operation[]): Operation[] {
  if (operations.length <= GROUP) return operations;
  const groups = Array.from({ length: Math.ceil(operations.length / GROUP) }, (_, i) => ({
    request_txn: { success: operations.slice(i * GROUP, (i + 1) * GROUP) },
  }));
  return grouped(groups);
}

function base64(value: string): string {
  return Buffer.from(value).toString('base64');
}

function text(value: string): string {
  return Buffer.from(value, 'base64').toString();
}
