import type { Socket } from 'node:net';

/** PostgreSQL protocol 3, "Message Formats": codes in the place of a version, in the first messages of a client. */
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const CANCEL_REQUEST = 80_877_102;
/** PostgreSQL's own bound (MAX_STARTUP_PACKET_LENGTH). */
const STARTUP_BYTES_MAX = 10_000;
const STARTUP_MS = 10_000;

const REFUSAL = {
  code: '57P03',
  message: 'this node takes no sessions at the moment: it is starting, or its PostgreSQL is',
  hint: 'connect to another node, or try again in a moment',
};

/**
 * Tells a PostgreSQL client that the server is away, as the error it can show: requests for encryption are answered "no", its startup
 * packet is read, then comes the ErrorResponse. Clients that meet a silent close cannot tell it from a broken network.
 */
export function refuseSession(client: Socket): void {
  let received = Buffer.alloc(0);
  client.setTimeout(STARTUP_MS, () => client.destroy());
  client.once('end', () => client.destroySoon());
  client.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    for (;;) {
      const first = nextStartup(received);
      if (first === 'partial') return;
      if (first === 'broken' || first.code === CANCEL_REQUEST) {
        client.destroy();
        return;
      }
      received = received.subarray(first.bytes);
      if (first.code !== SSL_REQUEST && first.code !== GSS_REQUEST) break;
      client.write('N');
    }
    client.removeAllListeners('data');
    client.end(errorResponse(REFUSAL));
    client.resume();
  });
  client.resume();
}

/** The length and version code of the startup message that `bytes` begins with. */
export function nextStartup(bytes: Buffer): { bytes: number; code: number } | 'partial' | 'broken' {
  if (bytes.length < 8) return 'partial';
  const length = bytes.readInt32BE(0);
  if (length < 8 || length > STARTUP_BYTES_MAX) return 'broken';
  return bytes.length < length ? 'partial' : { bytes: length, code: bytes.readInt32BE(4) };
}

/** A fatal ErrorResponse message: fields of one letter and a string each, a zero at the end. */
function errorResponse(error: { code: string; message: string; hint: string }): Buffer {
  const fields = { S: 'FATAL', V: 'FATAL', C: error.code, M: error.message, H: error.hint };
  const body = Buffer.from(
    `${Object.entries(fields)
      .map(([key, value]) => `${key}${value}\0`)
      .join('')}\0`,
  );
  const head = Buffer.alloc(5);
  head.write('E');
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}
