import { DESCRIBE_PORTAL, EXECUTE_ALL, framed, HEAD_BYTES, SYNC } from './messages.ts';

/**
 * The messages of the extended protocol that a gateway reads and writes (PostgreSQL manual, 54.7). Each takes
 * a whole message and gives null where it is none.
 */

export interface ParseMessage {
  readonly statement: string;
  readonly text: string;
  /** Of the parameters, as far as the client names them; 0: the server finds out. */
  readonly types: readonly number[];
}

export interface BindMessage {
  readonly portal: string;
  readonly statement: string;
  /** Where the parameters' formats begin: everything from there is the same for any server. */
  readonly restAt: number;
}

export interface Slice {
  readonly start: number;
  readonly end: number;
  readonly isBinary: boolean;
}

export function readParse(message: Buffer): ParseMessage | null {
  const statementEnd = message.indexOf(0, HEAD_BYTES);
  const textEnd = statementEnd === -1 ? -1 : message.indexOf(0, statementEnd + 1);
  if (textEnd === -1 || textEnd + 3 > message.length) return null;
  const count = message.readUInt16BE(textEnd + 1);
  if (textEnd + 3 + 4 * count !== message.length) return null;
  const types = Array.from({ length: count }, (_, i) => message.readUInt32BE(textEnd + 3 + 4 * i));
  return {
    statement: message.toString('utf8', HEAD_BYTES, statementEnd),
    text: message.toString('utf8', statementEnd + 1, textEnd),
    types,
  };
}

export function readBind(message: Buffer): BindMessage | null {
  const portalEnd = message.indexOf(0, HEAD_BYTES);
  const statementEnd = portalEnd === -1 ? -1 : message.indexOf(0, portalEnd + 1);
  if (statementEnd === -1) return null;
  return {
    portal: message.toString('utf8', HEAD_BYTES, portalEnd),
    statement: message.toString('utf8', portalEnd + 1, statementEnd),
    restAt: statementEnd + 1,
  };
}

/**
 * Where a parameter (from 0) of a Bind message is. Null: it is NULL, it is not there, or the message is
 * broken.
 */
export function parameterOf(message: Buffer, { restAt }: BindMessage, index: number): Slice | null {
  const size = message.length;
  if (restAt + 2 > size) return null;
  const formats = message.readUInt16BE(restAt);
  let at = restAt + 2 + 2 * formats;
  if (at + 2 > size) return null;
  const count = message.readUInt16BE(at);
  if (index >= count || (formats > 1 && formats !== count)) return null;
  at += 2;
  for (let i = 0; i < index; i++) {
    if (at + 4 > size) return null;
    at += 4 + Math.max(0, message.readInt32BE(at));
  }
  if (at + 4 > size) return null;
  const bytes = message.readInt32BE(at);
  if (bytes < 0 || at + 4 + bytes > size) return null;
  const format = formats === 0 ? 0 : message.readUInt16BE(restAt + 2 + (formats === 1 ? 0 : 2 * index));
  if (format > 1) return null;
  return { start: at + 4, end: at + 4 + bytes, isBinary: format === 1 };
}

/** The name in the beginning of a Parse message. */
export function statementOf(begun: Buffer): string | null {
  const end = begun.indexOf(0, HEAD_BYTES);
  return end === -1 ? null : begun.toString('utf8', HEAD_BYTES, end);
}

/** The kind ('S', 'P') and the name of a Describe or Close message. */
export function readTarget(message: Buffer): { kind: number; name: string } | null {
  const end = message.indexOf(0, HEAD_BYTES + 1);
  if (end === -1) return null;
  return { kind: message[HEAD_BYTES] as number, name: message.toString('utf8', HEAD_BYTES + 1, end) };
}

/** Of an Execute message: its portal, and how many rows it wants at most; 0: all. */
export function readExecute(message: Buffer): { portal: string; rowsMax: number } | null {
  const end = message.indexOf(0, HEAD_BYTES);
  if (end === -1 || end + 5 !== message.length) return null;
  return { portal: message.toString('utf8', HEAD_BYTES, end), rowsMax: message.readInt32BE(end + 1) };
}

/**
 * All that executes a statement: the same Bind message for the unnamed portal and another statement (its name
 * in ASCII), Describe where the client wants it, Execute and Sync.
 */
export function executionOf(message: Buffer, { restAt }: BindMessage, statement: string, describes: boolean): Buffer {
  const bindBytes = HEAD_BYTES + 1 + statement.length + 1 + message.length - restAt;
  const behind = describes ? DESCRIBED_EXECUTION : EXECUTION;
  const made = Buffer.allocUnsafe(bindBytes + behind.length);
  made[0] = 0x42;
  made.writeInt32BE(bindBytes - 1, 1);
  made[HEAD_BYTES] = 0;
  made.write(statement, HEAD_BYTES + 1, 'latin1');
  made[HEAD_BYTES + 1 + statement.length] = 0;
  message.copy(made, HEAD_BYTES + 2 + statement.length, restAt);
  behind.copy(made, bindBytes);
  return made;
}

const EXECUTION = Buffer.concat([EXECUTE_ALL, SYNC]);
const DESCRIBED_EXECUTION = Buffer.concat([DESCRIBE_PORTAL, EXECUTION]);

/**
 * Asks `text` in a session, as a statement called `name`. It is gone when that is answered, or, after an
 * error, when it is asked again.
 */
export function questionOf(text: string, name: string): Buffer {
  const bind = framed(0x42, Buffer.from(`\0${name}\0\0\0\0\0\0\0`));
  const close = framed(0x43, Buffer.from(`S${name}\0`));
  return Buffer.concat([close, parseMessage(name, text, []), bind, EXECUTE_ALL, close, SYNC]);
}

export function parseMessage(statement: string, text: string, types: readonly number[]): Buffer {
  const names = Buffer.from(`${statement}\0${text}\0`);
  const made = Buffer.allocUnsafe(HEAD_BYTES + names.length + 2 + 4 * types.length);
  made[0] = 0x50;
  made.writeInt32BE(made.length - 1, 1);
  names.copy(made, HEAD_BYTES);
  const typesAt = HEAD_BYTES + names.length;
  made.writeUInt16BE(types.length, typesAt);
  for (const [i, type] of types.entries()) made.writeUInt32BE(type, typesAt + 2 + 4 * i);
  return made;
}
