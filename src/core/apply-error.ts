/**
 * What a worker of logical replication fails at, again and again, as its receiver's PostgreSQL says in its
 * log.
 */
export interface ApplyError {
  /** Subscription, as `tide_1_2`. */
  stream: string;
  /** Replica table, as `t4_p0`; null where PostgreSQL names none. */
  table: string | null;
  /** At the first copy of the table, and not at what the stream brings: it holds up nobody else. */
  copying: boolean;
  /**
   * The sender's transaction that cannot be applied; empty where the failure is not that of a transaction, as
   * when the sender is not reached.
   */
  place: string;
  /** PostgreSQL's own, the first line. */
  message: string;
  tries: number;
  /** Between the first failure and the last one, and since the last one. */
  forMs: number;
  agoMs: number;
}
