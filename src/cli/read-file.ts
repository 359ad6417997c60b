import { readFile } from 'node:fs/promises';
import { messageOf, tideError } from '../core/errors.ts';

/** The text of a file that the command line names. Throws FILE_UNREADABLE. */
export function readTextFile(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw tideError('FILE_UNREADABLE', { file, why: messageOf(error) }, error);
  });
}
