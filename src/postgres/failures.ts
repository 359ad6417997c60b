import { open, stat } from 'node:fs/promises';
import { messageOf, TideError, tideError } from '../core/errors.ts';

/** How much of a log's end is quoted to users. */
const LOG_TAIL_LINES = 12;
const LOG_TAIL_BYTES = 8192;

/** The last lines written to `logFile` after byte `from`; empty where there are none. */
export async function logTail(logFile: string, from = 0): Promise<string> {
  const file = await open(logFile, 'r').catch(() => null);
  if (file === null) return '';
  try {
    const { size } = await file.stat();
    const start = Math.max(Math.min(from, size), size - LOG_TAIL_BYTES);
    const { bytesRead, buffer } = await file.read({ buffer: Buffer.alloc(size - start), position: start });
    const text = buffer.toString('utf8', 0, bytesRead).trimEnd();
    return text.split('\n').slice(-LOG_TAIL_LINES).join('\n');
  } finally {
    await file.close();
  }
}

/** Bytes in `logFile`: where the lines of what is started now will begin. */
export async function logEnd(logFile: string): Promise<number> {
  return stat(logFile).then(
    (found) => found.size,
    () => 0,
  );
}

/** Turns a failed file-system call on a store into STORE_FULL, STORE_READ_ONLY or STORE_UNUSABLE. */
export function storeError(path: string, error: unknown): TideError {
  if (error instanceof TideError) return error;
  const why = messageOf(error);
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return tideError('STORE_FULL', { path, why }, error);
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return tideError('STORE_READ_ONLY', { path, why }, error);
    default:
      return tideError('STORE_UNUSABLE', { path, why }, error);
  }
}

/** What PostgreSQL's programs say when the disk is the cause; null where something else is. */
export function diskFailure(path: string, said: string): TideError | null {
  if (/No space left on device|Disk quota exceeded/.test(said)) {
    return tideError('STORE_FULL', { path, why: lineWith(said, /No space left|quota/) });
  }
  if (/Read-only file system/.test(said)) {
    return tideError('STORE_READ_ONLY', { path, why: lineWith(said, /Read-only/) });
  }
  return null;
}

export interface FailedStart {
  dataDir: string;
  address: string;
  /** `status 1`, `signal SIGKILL` */
  exit: string;
  logFile: string;
  /** What this start wrote to the log. */
  logTail: string;
}

/** Reads the reason of a failed start out of what PostgreSQL logged. */
export function startFailure(failed: FailedStart): TideError {
  const { logFile, logTail: said, exit } = failed;
  if (portWasTaken(said)) return tideError('PORT_IN_USE', { flag: '--postgres-port', address: failed.address });
  if (/could not create any TCP\/IP sockets/.test(said)) {
    const why = lineWith(said, /could not bind|could not translate/);
    return tideError('ADDRESS_UNAVAILABLE', { flag: '--postgres-port', address: failed.address, why });
  }
  const disk = diskFailure(failed.dataDir, said);
  if (disk !== null) return disk;
  if (
    /configuration file ".*" contains errors|could not load .*pg_hba\.conf|syntax error in file|invalid value for parameter|unrecognized configuration parameter/.test(
      said,
    )
  ) {
    return tideError('POSTGRES_CONFIG_BAD', { logFile, logTail: said });
  }
  return tideError('POSTGRES_START_FAILED', { exit, logFile, logTail: said });
}

/** Also said by a server that started: one of several addresses is enough for it. */
export function portWasTaken(said: string): boolean {
  return /could not bind .*: Address already in use/.test(said);
}

function lineWith(text: string, pattern: RegExp): string {
  return (text.split('\n').find((line) => pattern.test(line)) ?? text).trim();
}
