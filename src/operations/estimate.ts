/**
 * How far an operation of many moves has come, and how long it will take: pure. A move costs time whatever it
 * copies (slots, streams, a change of leader), and time for every byte. Both are learned from the moves that
 * this operation itself has finished.
 */

export interface MovesSeen {
  /** Those that this operation has carried out, each with what it copied and how long it took. */
  readonly finished: readonly { readonly bytes: number; readonly ms: number }[];
  readonly running: readonly { readonly bytes: number; readonly bytesDone: number; readonly ms: number }[];
  /** Those that have yet to begin. */
  readonly left: readonly { readonly bytes: number }[];
  /** Since the first of them began. */
  readonly elapsedMs: number;
}

export interface Estimate {
  /** Whole; 98 at the most while more than one move has yet to end, and 99 until the operation has. */
  readonly percent: number;
  /** Null until it can be told. */
  readonly secondsLeft: number | null;
}

interface Cost {
  readonly moveMs: number;
  readonly byteMs: number;
}

/** What a move is taken to cost before one has ended: as on a small machine that has something to do. */
const FIRST_GUESS: Cost = { moveMs: 3_000, byteMs: 1_000 / (50 * 1024 * 1024) };
/**
 * Beside finished moves of one size the guess tells the one cost from the other: as much as one more move
 * without bytes, and one of this size.
 */
const GUESSED_BYTES = 50 * 1024 * 1024;
/** A move under way is not done, however long it has taken. */
const UNDER_WAY_MAX = 0.95;

export function estimate(seen: MovesSeen): Estimate {
  const cost = learn(seen.finished);
  const done =
    sum(seen.finished.map((m) => m.ms)) + sum(seen.running.map((m) => doneOf(m, cost, costOf(m.bytes, cost))));
  const open = [...seen.running, ...seen.left];
  const whole = sum(seen.finished.map((m) => m.ms)) + sum(open.map((m) => costOf(m.bytes, cost)));
  const most = open.length > 1 ? 98 : 99;
  const percent = whole === 0 ? 0 : Math.min(most, Math.floor((100 * done) / whole));
  const atOnce = atATime(seen, done);
  return { percent, secondsLeft: atOnce === null ? null : Math.ceil((whole - done) / atOnce / 1_000) };
}

/** How many moves' worth of work is done in the time of one; null where nothing tells yet. */
function atATime({ finished, running, elapsedMs }: MovesSeen, doneMs: number): number | null {
  if (finished.length > 0) return elapsedMs > 0 && doneMs > 0 ? doneMs / elapsedMs : null;
  return running.some((m) => m.bytesDone > 0) ? running.filter((m) => m.ms > 0).length : null;
}

function costOf(bytes: number, cost: Cost): number {
  return cost.moveMs + cost.byteMs * bytes;
}

/** It has copied what it has copied; of what it costs beside that the part that its time has passed of. */
function doneOf(move: MovesSeen['running'][number], cost: Cost, wholeMs: number): number {
  const rest = wholeMs === 0 ? 0 : cost.moveMs * Math.min(1, move.ms / wholeMs);
  return Math.min(UNDER_WAY_MAX * wholeMs, cost.byteMs * Math.min(move.bytes, move.bytesDone) + rest);
}

/**
 * The straight line through the moves that have ended (least squares), neither cost below nothing: in sum it
 * takes them for what they took.
 */
function learn(finished: MovesSeen['finished']): Cost {
  if (finished.length === 0) return FIRST_GUESS;
  const mean = {
    bytes: sum(finished.map((m) => m.bytes)) / finished.length,
    ms: sum(finished.map((m) => m.ms)) / finished.length,
  };
  // The guess, made as slow or as fast as this machine has been.
  const pace = mean.ms / costOf(mean.bytes, FIRST_GUESS);
  const guessed = [0, GUESSED_BYTES].map((bytes) => ({ bytes, ms: pace * costOf(bytes, FIRST_GUESS) }));
  const slope = slopeOf([...finished, ...guessed]);
  const byteMs = mean.bytes === 0 ? pace * FIRST_GUESS.byteMs : Math.min(Math.max(0, slope), mean.ms / mean.bytes);
  return { moveMs: mean.ms - (mean.bytes === 0 ? 0 : byteMs * mean.bytes), byteMs };
}

function slopeOf(points: readonly { bytes: number; ms: number }[]): number {
  const bytes = sum(points.map((p) => p.bytes)) / points.length;
  const ms = sum(points.map((p) => p.ms)) / points.length;
  const along = sum(points.map((p) => (p.bytes - bytes) * (p.ms - ms)));
  return along / sum(points.map((p) => (p.bytes - bytes) ** 2));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
