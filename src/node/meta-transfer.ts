import { randomUUID } from 'node:crypto';
import { BODY_BYTES_MAX } from '../api/client.ts';
import { ask } from '../api/http-client.ts';
import { META_BYTES_MAX, type MetaPart, type MetaTransfer } from '../api/membership.ts';
import { TideError, tideError } from '../core/errors.ts';

/** Of a part, while its entries are smaller. */
const PART_BYTES = BODY_BYTES_MAX / 4;
const PART_MS = 60_000;

type Entries = MetaTransfer['entries'];

/**
 * In their order, as many in each as `bytes` take; one that is larger by itself is a part of its own. Nothing
 * at all is one part, too.
 */
export function* partsOf(entries: Entries, bytes = PART_BYTES): Generator<Entries> {
  let part: Entries = [];
  let size = 0;
  for (const entry of entries) {
    const more = JSON.stringify(entry).length;
    if (part.length > 0 && size + more > bytes) {
      yield part;
      part = [];
      size = 0;
    }
    part.push(entry);
    size += more;
  }
  yield part;
}

/**
 * Sends a whole meta store to the node at `address` (HOST:PORT), where it waits to be taken up: part after
 * part, the next when the last one is on its disk there. A node of version 0.1 takes it in one piece only.
 * Throws BODY_TOO_LARGE where that piece is more than such a node could bear.
 */
export async function sendMeta(address: string, from: number, clusterId: string, entries: Entries): Promise<void> {
  const transfer = randomUUID();
  const options = { timeoutMs: PART_MS, bytesMax: META_BYTES_MAX, cluster: clusterId };
  const parts = [...partsOf(entries)];
  for (const [number, part] of parts.entries()) {
    const body: MetaPart = { clusterId, from, transfer, number, isLast: number === parts.length - 1, entries: part };
    try {
      await ask(address, 'meta/part', body, options);
    } catch (error) {
      if (number > 0 || !isOlder(error)) throw error;
      const whole: MetaTransfer = { clusterId, from, entries };
      await ask(address, 'meta/receive', whole, options);
      return;
    }
  }
}

/** It does not know the route, and its program has no error of the catalogue for that. */
export function isOlder(error: unknown): boolean {
  return error instanceof TideError && error.code === 'NOT_PGTIDE' && error.details.status === 404;
}

/** A meta store that is being made of what comes in: nobody takes it up before `finish` has returned. */
export interface MetaSink {
  /** On disk when it returns. Throws STORE_TOO_NEW, META_FULL. */
  put(entries: Entries): Promise<void>;
  finish(): Promise<void>;
}

/** What comes of one sender that has begun and then falls silent is let go after this time. */
const SILENT_MS = 120_000;

/**
 * The parts of one transfer at a time, in their order. Whoever begins anew takes the place of whoever was
 * before.
 */
export class MetaArrival {
  readonly #begin: () => Promise<MetaSink>;
  #now: { transfer: string; next: number; sink: MetaSink; timer: NodeJS.Timeout } | null = null;

  constructor(begin: () => Promise<MetaSink>) {
    this.#begin = begin;
  }

  /**
   * Not to be called before the last call has returned. Throws BAD_REQUEST for a part that is not the next
   * one.
   */
  async take({ transfer, number, isLast, entries }: Omit<MetaPart, 'clusterId' | 'from'>): Promise<void> {
    if (number === 0) await this.#start(transfer);
    const now = this.#now;
    if (now === null || now.transfer !== transfer || now.next !== number)
      throw tideError('BAD_REQUEST', { what: 'meta store', why: `part ${number} is not the one that comes next` });
    now.timer.refresh();
    try {
      await now.sink.put(entries);
      now.next += 1;
    } catch (error) {
      await this.drop();
      throw error;
    }
    if (isLast) await this.drop();
  }

  /** Lets go of what is there of one. */
  async drop(): Promise<void> {
    const now = this.#now;
    this.#now = null;
    clearTimeout(now?.timer);
    await now?.sink.finish();
  }

  async #start(transfer: string): Promise<void> {
    await this.drop();
    const sink = await this.#begin();
    const timer = setTimeout(() => void this.drop().catch(() => {}), SILENT_MS).unref();
    this.#now = { transfer, next: 0, sink, timer };
  }
}
