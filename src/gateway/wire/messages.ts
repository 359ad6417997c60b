/**
 * What a server sends (PostgreSQL manual, 54.7): a byte for the type, then the length of what follows, itself
 * included.
 */
export const HEAD_BYTES = 5;

export const TYPE = { errorResponse: 0x45, backendKeyData: 0x4b, readyForQuery: 0x5a } as const;

/** Where the message ends whose head is at `at`. Before the end of its head: it is no message. */
export function endOfMessage(bytes: Buffer, at: number): number {
  return at + 1 + bytes.readInt32BE(at + 1);
}

/** An ErrorResponse: fields of one letter and a string each, a zero at the end. */
export function errorResponse(fields: Readonly<Record<string, string>>): Buffer {
  const texts = Object.entries(fields).map(([key, value]) => `${key}${value}\0`);
  const body = Buffer.from(`${texts.join('')}\0`);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt8(TYPE.errorResponse);
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
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
