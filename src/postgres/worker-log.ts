/** Reads what workers of logical replication fail at out of PostgreSQL's log. */

/** One failure of a worker. */
export interface WorkerFailure {
  /** Subscription. */
  stream: string;
  /** In the schema of replicas. */
  table: string | null;
  copying: boolean;
  /** The sender's transaction, or the kind of message; empty where nothing was being applied. */
  place: string;
  message: string;
  /** Said by a worker of what another has failed at, in words that tell nothing. */
  second: boolean;
}

interface Worker {
  stream: string;
  /** The table that it copies; null for one that applies. */
  table: string | null;
}

interface Entry {
  processId: number;
  severity: string;
  text: string;
  context: string;
}

/**
 * A line of a worker of replication, by pgtide's `log_line_prefix`, which names the kind of process before
 * anything that a client has a say in. Others without a client do not count: a parallel worker, or
 * autovacuum, runs functions of clients, who could have replicas thrown away. What goes on begins with a tab.
 * The SQLSTATE is there with `log_error_verbosity = verbose`.
 */
const LINE =
  /^\S+ \S+ \S+ \[(\d+)\] logical replication (?:apply|parallel|tablesync) worker ([A-Z]+): {2}(?:[0-9A-Z]{5}: )?(.*)$/;
const PARTS = new Set(['DETAIL', 'HINT', 'QUERY', 'CONTEXT', 'STATEMENT', 'LOCATION']);
const APPLIES = /^logical replication apply worker for subscription "(.*)" has started$/;
const COPIES = /^logical replication table synchronization worker for subscription "(.*)", table "(.*)" has started$/;
/**
 * PostgreSQL's own place is the outermost. Above it stands what functions of users say that a row has called.
 */
const OUTERMOST =
  /(?:^|\n\t)(processing remote data for replication origin .*)(?:\n\tlogical replication parallel apply worker)?$/;
const APPLYING = /^processing remote data for replication origin "[^"]*" during message type "([^"]*)"/;
const RELATION = /for replication target relation "tide_data\.([^"]*)"/;
/** Said before PostgreSQL has the relation, and can name it in the context. */
const NO_RELATION = /^(?:logical replication target relation|cannot use relation) "tide_data\.([^"]*)"/;
const SECOND = 'logical replication parallel apply worker exited due to error';
/** Processes come and go, and those that came first are gone. */
const WORKERS_MAX = 1_000;
/**
 * Kept of a line that has not ended, from its begin, and of a context, from its end: users' statements in
 * them are as long as they like.
 */
const KEPT_MAX = 1 << 14;

/**
 * What comes is given to it piece by piece. Workers say whom they work for when they begin, and one that
 * fails begins anew every time: so the failures of a process that it has not seen begin are nobody's, and the
 * next ones are known.
 */
export class WorkerLog {
  readonly #workers = new Map<number, Worker>();
  #rest = '';
  #entry: Entry | null = null;
  #part = '';

  /** Failures that are whole with this text; the last entry of a text may go on in the next. */
  take(text: string): WorkerFailure[] {
    const lines = `${this.#rest}${text}`.split('\n');
    this.#rest = (lines.pop() ?? '').slice(0, KEPT_MAX);
    const found: WorkerFailure[] = [];
    for (const line of lines) {
      const ended = this.#takeLine(line);
      if (ended) found.push(ended);
    }
    // PostgreSQL writes an entry at once: with the end of a line, it is whole.
    const last = this.#rest === '' ? this.#end() : null;
    return last ? [...found, last] : found;
  }

  #takeLine(line: string): WorkerFailure | null {
    const entry = this.#entry;
    if (line.startsWith('\t')) {
      if (entry && this.#part === 'CONTEXT') entry.context = `${entry.context}\n${line}`.slice(-KEPT_MAX);
      return null;
    }
    const [, processId = '0', word = '', text = ''] = LINE.exec(line) ?? [];
    if (PARTS.has(word) && entry?.processId === Number(processId)) {
      this.#part = word;
      if (word === 'CONTEXT') entry.context = text;
      return null;
    }
    const ended = this.#end();
    this.#part = word;
    this.#entry = word === '' ? null : { processId: Number(processId), severity: word, text, context: '' };
    return ended;
  }

  #end(): WorkerFailure | null {
    const entry = this.#entry;
    this.#entry = null;
    this.#part = '';
    if (entry?.severity === 'LOG') this.#meet(entry);
    return entry?.severity === 'ERROR' ? this.#failureOf(entry) : null;
  }

  #meet({ processId, text, context }: Entry): void {
    // A function that a row has called may say the same.
    if (context !== '') return;
    const [, applied] = APPLIES.exec(text) ?? [];
    const [, copied, table = ''] = COPIES.exec(text) ?? [];
    const stream = applied ?? copied;
    if (stream === undefined) return;
    this.#workers.delete(processId);
    this.#workers.set(processId, { stream, table: applied === undefined ? table : null });
    const [oldest] = this.#workers.keys();
    if (this.#workers.size > WORKERS_MAX && oldest !== undefined) this.#workers.delete(oldest);
  }

  #failureOf({ processId, text, context }: Entry): WorkerFailure | null {
    const worker = this.#workers.get(processId);
    if (!worker) return null;
    const where = OUTERMOST.exec(context)?.[1] ?? '';
    const applying = APPLYING.exec(where);
    const transaction = /in transaction (\d+)/.exec(where)?.[1];
    return {
      stream: worker.stream,
      table: worker.table ?? RELATION.exec(where)?.[1] ?? NO_RELATION.exec(text)?.[1] ?? null,
      copying: worker.table !== null,
      place: applying ? (transaction ?? applying[1] ?? '') : '',
      message: text,
      second: text === SECOND,
    };
  }
}
