/**
 * What a server sends (PostgreSQL manual, 54.7): a byte for the type, then the length of what follows, itself
 * included.
 */
export const HEAD_BYTES = 5;

export const TYPE = {
  parseComplete: 0x31,
  bindComplete: 0x32,
  closeComplete: 0x33,
  notification: 0x41,
  commandComplete: 0x43,
  dataRow: 0x44,
  errorResponse: 0x45,
  backendKeyData: 0x4b,
  notice: 0x4e,
  authentication: 0x52,
  parameterStatus: 0x53,
  rowDescription: 0x54,
  readyForQuery: 0x5a,
} as const;

/** Where the message ends whose head is at `at`. Before the end of its head: it is no message. */
export function endOfMessage(bytes: Buffer, at: number): number {
  return at + 1 + bytes.readInt32BE(at + 1);
}

/** An ErrorResponse: fields of one letter and a string each, a zero at the end. */
export function errorResponse(fields: Readonly<Record<string, string>>): Buffer {
  const texts = Object.entries(fields).map(([key, value]) => `${key}${value}\0`);
  return framed(TYPE.errorResponse, Buffer.from(`${texts.join('')}\0`));
}

/** A whole message with this body. */
export function framed(type: number, body: Buffer): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt8(type);
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}

/** Whether the session ends with this ErrorResponse. */
export function isFatal(message: Buffer): boolean {
  const { V = 'ERROR' } = errorFields(message);
  return V !== 'ERROR';
}

/** The fields of an ErrorResponse, by their letters. */
export function errorFields(message: Buffer): Readonly<Record<string, string>> {
  const texts = message.subarray(HEAD_BYTES).toString().split('\0');
  return Object.fromEntries(texts.filter((text) => text !== '').map((text) => [text.slice(0, 1), text.slice(1)]));
}

/** The process that serves the session, as its BackendKeyData says. */
export function processOf(message: Buffer): number {
  return message.readInt32BE(HEAD_BYTES);
}

/** Process and secret, as a copy: what a request to cancel has to say. */
export function cancelKey(backendKeyData: Buffer): Buffer {
  return Buffer.from(backendKeyData.subarray(HEAD_BYTES));
}

/** Whether an Authentication message asks for nothing more. */
export function isAuthenticated(message: Buffer): boolean {
  return message.readInt32BE(HEAD_BYTES) === 0;
}

/** Whole messages that are always the same: PostgreSQL manual, 54.7. */
export const SYNC = Buffer.from([0x53, 0, 0, 0, 4]);
/** The unnamed portal, all of its rows. */
export const EXECUTE_ALL = Buffer.from([0x45, 0, 0, 0, 9, 0, 0, 0, 0, 0]);
export const DESCRIBE_PORTAL = Buffer.from([0x44, 0, 0, 0, 6, 0x50, 0]);
export const PARSE_COMPLETE = Buffer.from([0x31, 0, 0, 0, 4]);
/** No transaction is open. */
export const READY_IDLE = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/** A StartupMessage of protocol 3.0. */
export function startupMessage(parameters: ReadonlyMap<string, string>): Buffer {
  const words = [...parameters].map(([name, value]) => `${name}\0${value}\0`);
  const body = Buffer.from(`${words.join('')}\0`);
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + body.length, 0);
  head.writeInt32BE(196_608, 4);
  return Buffer.concat([head, body]);
}

export function simpleQuery(text: string): Buffer {
  return framed(0x51, Buffer.from(`${text}\0`));
}

/** The text of a Query message; null: it is none. */
export function queryText(message: Buffer): string | null {
  return message.at(-1) === 0 ? message.toString('utf8', HEAD_BYTES, message.length - 1) : null;
}

/** The first column of a DataRow, as text; null: NULL. */
export function firstColumn(dataRow: Buffer): string | null {
  const bytes = dataRow.readInt32BE(HEAD_BYTES + 2);
  return bytes < 0 ? null : dataRow.toString('utf8', HEAD_BYTES + 6, HEAD_BYTES + 6 + bytes);
}

/** Name and value of a ParameterStatus. */
export function parameterStatus(message: Buffer): { name: string; value: string } {
  const [name = '', value = ''] = message.toString('utf8', HEAD_BYTES).split('\0');
  return { name, value };
}

/** A RowDescription whose columns that are some table's are `table`'s. */
export function withTable(rowDescription: Buffer, table: number): Buffer {
  const made = Buffer.from(rowDescription);
  const count = made.readUInt16BE(HEAD_BYTES);
  let at = HEAD_BYTES + 2;
  for (let i = 0; i < count; i++) {
    at = made.indexOf(0, at) + 1;
    if (made.readUInt32BE(at) !== 0) made.writeUInt32BE(table, at);
    at += 18;
  }
  return made;
}

/** `key`: process and secret, as BackendKeyData gives them. */
export function cancelRequest(key: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + key.length, 0);
  head.writeInt32BE(80_877_102, 4);
  return Buffer.concat([head, key]);
}
