import pg from 'pg';
import { messageOf, tideError } from '../../core/errors.ts';

/** What one statement gave: rows where `columns` is not empty, else its command tag alone. */
export interface SqlAnswer {
  /** Null: there was no statement. */
  readonly command: string | null;
  readonly rowCount: number | null;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

/** A statement that PostgreSQL, or the gateway, has refused. */
export class SqlFailure extends Error {
  readonly sqlstate: string;
  readonly detail: string | null;
  readonly hint: string | null;

  constructor({ message, code, detail, hint }: Pick<pg.DatabaseError, 'message' | 'code' | 'detail' | 'hint'>) {
    super(message);
    this.sqlstate = code ?? '';
    this.detail = detail ?? null;
    this.hint = hint ?? null;
  }
}

/** A user's session at a node. */
export interface SqlConnection {
  /** Throws SqlFailure, or UNREACHABLE where the session has ended. */
  query(text: string): Promise<SqlAnswer[]>;
  close(): Promise<void>;
}

const CONNECT_MS = 10_000;
/** Of int2, int4, oid and float4: numbers. Everything else is what PostgreSQL prints. */
const NUMBERS: ReadonlySet<number> = new Set([21, 23, 26, 700]);
const BOOLEAN = 16;

function parserOf(type: number): (text: string) => unknown {
  if (type === BOOLEAN) return (text) => text === 't';
  return NUMBERS.has(type) ? Number : (text) => text;
}

/** `address`: HOST:PORT of a node's listen port. Throws UNREACHABLE, SqlFailure. */
export async function openSql(address: string, onNotice: (text: string) => void): Promise<SqlConnection> {
  const at = address.lastIndexOf(':');
  const host = address.slice(0, at).replace(/^\[(.*)\]$/, '$1');
  const where = { host, port: Number(address.slice(at + 1)), user: 'tide', database: 'tide' };
  const client = new pg.Client({ ...where, application_name: 'tide sql', connectionTimeoutMillis: CONNECT_MS });
  client.on('error', () => {});
  client.on('notice', ({ severity = 'NOTICE', message = '' }) => onNotice(`${severity}: ${message}`));
  const failed = (error: unknown) => {
    if (error instanceof pg.DatabaseError) throw new SqlFailure(error);
    throw tideError('UNREACHABLE', { address, why: messageOf(error) }, error);
  };
  await client.connect().catch(failed);
  return {
    query: async (text) => {
      const query = {
        text,
        rowMode: 'array' as const,
        types: { getTypeParser: parserOf as typeof pg.types.getTypeParser },
      };
      const answer = await client.query(query).catch(failed);
      return [answer].flat().map(({ command, rowCount, fields, rows }) => ({
        command,
        rowCount,
        columns: fields.map(({ name }) => name),
        rows: rows as unknown[][],
      }));
    },
    close: async () => client.end().catch(() => {}),
  };
}
