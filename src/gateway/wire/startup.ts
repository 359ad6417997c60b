/**
 * What a client may begin with: PostgreSQL manual, 54.7, CancelRequest, GSSENCRequest, SSLRequest and
 * StartupMessage.
 */

/** In the place of a version. */
const CANCEL_REQUEST = 80_877_102;
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
/** PostgreSQL's own bound (MAX_STARTUP_PACKET_LENGTH). */
const STARTUP_BYTES_MAX = 10_000;
/** Length and version. */
const HEAD_BYTES = 8;

/** A server's answers to a request for encryption: single bytes, before anything else. */
export const ENCRYPTION = { no: 0x4e, tls: 0x53, gss: 0x47 } as const;

/** One whole message. `bytes`: how long it is; what comes behind it is the next one's. */
export type FirstMessage =
  | { readonly kind: 'encryption'; readonly bytes: number }
  | { readonly kind: 'cancel'; readonly bytes: number }
  | { readonly kind: 'startup'; readonly bytes: number; readonly parameters: ReadonlyMap<string, string> };

/** The message that `bytes` begin with. `broken`: it is none that a PostgreSQL client sends. */
export function firstMessage(bytes: Buffer): FirstMessage | 'partial' | 'broken' {
  if (bytes.length < HEAD_BYTES) return 'partial';
  const length = bytes.readInt32BE(0);
  if (length < HEAD_BYTES || length > STARTUP_BYTES_MAX) return 'broken';
  if (bytes.length < length) return 'partial';
  const code = bytes.readInt32BE(4);
  if (code === SSL_REQUEST || code === GSS_REQUEST) return { kind: 'encryption', bytes: length };
  if (code === CANCEL_REQUEST) return { kind: 'cancel', bytes: length };
  return { kind: 'startup', bytes: length, parameters: parametersIn(bytes.subarray(HEAD_BYTES, length)) };
}

/**
 * Names and values with a zero behind each; an empty name ends them. PostgreSQL takes the last where one is
 * given twice.
 */
function parametersIn(body: Buffer): ReadonlyMap<string, string> {
  const words = body.toString().split('\0');
  const found = new Map<string, string>();
  for (let at = 0; at + 1 < words.length && words[at] !== ''; at += 2)
    found.set(words[at] as string, words[at + 1] as string);
  return found;
}
