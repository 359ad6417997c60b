import { type Logger, pino } from 'pino';

/** The node's own log: one JSON line an entry. */
export function openLog(file: string, node: () => number | null): Logger {
  return pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime, mixin: () => ({ node: node() }) },
    pino.destination({ dest: file, sync: false, mkdir: true }),
  );
}
