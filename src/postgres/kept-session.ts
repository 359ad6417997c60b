import type pg from 'pg';
import { type Address, type SessionOptions, sessionOf } from './connect.ts';
import type { Sql } from './sql/client.ts';

/** A session that is kept from one statement to the next, and made anew after one that has failed. */
export class KeptSession implements Sql {
  readonly #address: () => Address;
  readonly #options: SessionOptions;
  #client: pg.Client | null = null;

  /** `address`: asked whenever a session is made. */
  constructor(address: () => Address, options: SessionOptions) {
    this.#address = address;
    this.#options = options;
  }

  async query<R extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]> {
    const client = this.#client ?? sessionOf(this.#address(), this.#options);
    try {
      if (client !== this.#client) {
        this.#client = client;
        await client.connect();
      }
      return (await client.query<R>(text, values)).rows;
    } catch (error) {
      if (client === this.#client) this.#client = null;
      client.end().catch(() => {});
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => {});
  }
}
