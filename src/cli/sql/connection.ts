import pg from 'pg';
import { messageOf, tideError } from '../../core/errors.ts';

/** What one statement gave: rows where `columns` is not empty, else its command tag alone. */
export interface SqlAnswer {
  readonly command: string;
  readonly rowCount: number | null;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

/** A statement that PostgreSQL, or the gateway, has refused. */
export class SqlFailure extends Error {
  readonly sqlstate: string;
  readonly detail: string | null;
  readonly hint: string | null;

  constructor({ message, code, detail, hint }: pg.DatabaseError) {
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
      const answer = await client.query({ text, rowMode: 'array' }).catch(failed);
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
