import { type ChildProcess, spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { type ErrorBody, TideError, tideError } from '../core/errors.ts';
import { ownEnvironment } from '../postgres/environment.ts';
import { logEnd, logTail, storeError } from '../postgres/failures.ts';

/** Set for the process that `--background` starts, which is to run in the foreground of its own session. */
const BACKGROUND_ENV = 'PGTIDE_BACKGROUND_CHILD';

type Message =
  | { pgtide: 'waits'; text: string }
  | { pgtide: 'ready'; text: string }
  | { pgtide: 'failed'; error: ErrorBody };

export interface BackgroundResult {
  readonly processId: number;
  /** What the node had to say when it was ready: its banner. */
  readonly text: string;
}

/** True in the process that `startInBackground` made. */
function isBackgroundChild(): boolean {
  return process.env[BACKGROUND_ENV] === '1';
}

/**
 * Runs this program again with `args` as a process of its own session, its output appended to `logFile`, and
 * returns when it calls `reportReady`. Throws the error it hands to `reportFailed`, or BACKGROUND_FAILED with
 * the end of its log where it just ends. `onWait` hears what it hands to `reportWait`: a start may wait for
 * others without a bound.
 */
export async function startInBackground(
  args: readonly string[],
  logFile: string,
  onWait: (text: string) => void,
): Promise<BackgroundResult> {
  const log = await open(logFile, 'a').catch((error) => Promise.reject(storeError(logFile, error)));
  const from = await logEnd(logFile);
  try {
    const child = spawn(process.execPath, [...process.execArgv, ...args], {
      detached: true,
      stdio: ['ignore', log.fd, log.fd, 'ipc'],
      env: { ...ownEnvironment(), [BACKGROUND_ENV]: '1' },
    });
    const { message, exit } = await firstWord(child, onWait);
    if (message?.pgtide === 'failed') throw new TideError(message.error);
    if (message === null)
      throw tideError('BACKGROUND_FAILED', { exit, logFile, logTail: await logTail(logFile, from) });
    if (child.connected) child.disconnect();
    child.unref();
    return { processId: child.pid ?? 0, text: message.text };
  } finally {
    await log.close();
  }
}

/** A child that fails is waited for: when the caller has ended, nothing of the attempt runs any more. */
function firstWord(
  child: ChildProcess,
  onWait: (text: string) => void,
): Promise<{ message: Exclude<Message, { pgtide: 'waits' }> | null; exit: string }> {
  return new Promise((resolve) => {
    let said: Exclude<Message, { pgtide: 'waits' }> | null = null;
    child.on('message', (message: Message) => {
      if (message.pgtide === 'waits') return onWait(message.text);
      said = message;
      if (message.pgtide === 'ready') resolve({ message, exit: '' });
    });
    child.once('error', (error) => resolve({ message: said, exit: error.message }));
    child.once('exit', (status, signal) => {
      resolve({ message: said, exit: signal === null ? `exit status ${status}` : `signal ${signal}` });
    });
  });
}

/**
 * Tells the process that started this one in the background what the start waits for; nothing where there is
 * none.
 */
export function reportWait(text: string): void {
  if (isBackgroundChild() && process.connected) process.send?.({ pgtide: 'waits', text } satisfies Message, () => {});
}

/**
 * Tells the process that started this one in the background that it may return; nothing where there is none.
 */
export function reportReady(text: string): Promise<void> {
  return tell({ pgtide: 'ready', text });
}

/**
 * Tells the process that started this one in the background why it fails. The caller then exits with a status
 * other than 0.
 */
export function reportFailed(error: TideError): Promise<void> {
  return tell({ pgtide: 'failed', error: error.toBody() });
}

function tell(message: Message): Promise<void> {
  return new Promise((resolve) => {
    if (!isBackgroundChild() || !process.connected || process.send === undefined) return resolve();
    // The one who waits may have been interrupted; the node does not depend on it.
    process.send(message, undefined, {}, () => {
      if (process.connected) process.disconnect();
      resolve();
    });
  });
}
