import { type Logger, pino } from 'pino';

/**
 * The node's own log: one JSON line an entry. Lines that find no room on the disk are lost; the node goes on.
 */
export function openLog(file: string, node: () => number | null): Logger {
  const destination = pino.destination({ dest: file, sync: false, mkdir: true });
  destination.on('error', () => {});
  return pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime, mixin: () => ({ node: node() }) }, destination);
}
