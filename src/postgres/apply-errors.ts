import { type FileHandle, open } from 'node:fs/promises';
import type { ApplyError } from '../core/apply-error.ts';
import { type WorkerFailure, WorkerLog } from './worker-log.ts';

/** What is read at once at the most: of a log that grows faster, the rest is left out. */
const READ_MAX = 1 << 20;
/** How much of what is there already is looked at for who the workers are. */
const PAST_BYTES = 256 << 10;
/** A failure that has not come back for as long is no news: a worker begins anew five times a second. */
const OVER_MS = 10_000;
/**
 * Until a large transaction, or the copy of a large table, comes to the row again where it has failed before:
 * it is the same failure.
 */
const AGAIN_MS = 600_000;
const ERRORS_MAX = 50;
const MESSAGE_MAX = 500;

interface Counted extends WorkerFailure {
  tries: number;
  /** Those that another worker told of. */
  seconds: number;
  firstMs: number;
  lastMs: number;
}

/**
 * What workers of logical replication fail at in this node's PostgreSQL, by its log: its statistics count
 * failures and keep no message. Read from where the last look has ended; what was said before the first one
 * is over.
 */
export class ApplyErrors {
  readonly #file: string;
  readonly #nowMs: () => number;
  readonly #log = new WorkerLog();
  readonly #counted = new Map<string, Counted>();
  #offset: number | null = null;

  constructor(file: string, nowMs: () => number = () => performance.now()) {
    this.#file = file;
    this.#nowMs = nowMs;
  }

  /** Never throws: without its log, nothing is known. */
  async look(): Promise<ApplyError[]> {
    const isFirst = this.#offset === null;
    const failures = this.#log.take(await this.#read().catch(() => ''));
    const nowMs = this.#nowMs();
    if (!isFirst) for (const failure of failures) this.#count(failure, nowMs);
    for (const [key, { lastMs }] of this.#counted) if (nowMs - lastMs > AGAIN_MS) this.#counted.delete(key);
    const news = [...this.#counted.values()].filter(({ lastMs }) => nowMs - lastMs <= OVER_MS);
    const newest = news.sort((a, b) => b.lastMs - a.lastMs).slice(0, ERRORS_MAX);
    return newest.map(({ stream, table, copying, place, message, tries, seconds, firstMs, lastMs }) => ({
      stream,
      table,
      copying,
      place,
      message,
      tries: Math.max(tries, seconds),
      forMs: lastMs - firstMs,
      agoMs: nowMs - lastMs,
    }));
  }

  #count(failure: WorkerFailure, nowMs: number): void {
    const { stream, table, copying, place, second } = failure;
    const key = JSON.stringify([stream, table, copying, place]);
    const begun = { ...failure, tries: 0, seconds: 0, firstMs: nowMs, lastMs: nowMs };
    const before = this.#counted.get(key);
    // What has no place, as that a sender is not reached, may be another story by now.
    const known = before && (copying || place !== '' || nowMs - before.lastMs <= OVER_MS) ? before : begun;
    if (second) known.seconds += 1;
    else Object.assign(known, { tries: known.tries + 1, message: failure.message.slice(0, MESSAGE_MAX) });
    known.lastMs = nowMs;
    this.#counted.set(key, known);
  }

  async #read(): Promise<string> {
    const file = await open(this.#file, 'r');
    try {
      return await this.#readFrom(file);
    } finally {
      await file.close();
    }
  }

  async #readFrom(file: FileHandle): Promise<string> {
    const { size } = await file.stat();
    const before = this.#offset ?? Math.max(0, size - PAST_BYTES);
    // A shorter one is another: the server has begun a new log.
    const from = before > size ? 0 : Math.max(before, size - READ_MAX);
    const { bytesRead, buffer } = await file.read({ buffer: Buffer.alloc(size - from), position: from });
    this.#offset = from + bytesRead;
    return buffer.toString('utf8', 0, bytesRead);
  }
}
