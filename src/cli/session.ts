import type { AdminRequest } from '../api/commands.ts';
import { admin, quit, whoIs } from '../api/http-client.ts';
import type { WhoAmI } from '../api/membership.ts';
import type { Results } from '../api/results.ts';
import type { CliHost } from './host.ts';
import { type Column, type Format, render } from './output.ts';

/** Flags that every client command takes. */
export interface ClientFlags {
  host?: string;
  timeout: number;
  format?: Format;
}

const ADDRESS_DEFAULT = '127.0.0.1:26257';

/** One command's conversation with the cluster: whom it asks, and in which form it answers. */
export class Session {
  readonly host: CliHost;
  readonly address: string;
  readonly format: Format;
  readonly #timeoutMs: number;

  constructor(host: CliHost, flags: ClientFlags) {
    this.host = host;
    this.address = flags.host ?? (host.env.TIDE_HOST || ADDRESS_DEFAULT);
    this.format = flags.format ?? (host.stdout.isTTY === true ? 'table' : 'tsv');
    this.#timeoutMs = flags.timeout * 1000;
  }

  /** Sends one admin command; throws the cluster's `TideError`. */
  call<R extends AdminRequest>(command: R): Promise<Results[R['do']]> {
    return admin(this.address, command, { timeoutMs: this.#timeoutMs });
  }

  /** Who listens at `address`. */
  async whoAmI(address: string): Promise<WhoAmI> {
    return whoIs(address, { timeoutMs: this.#timeoutMs });
  }

  /** Asks the node at `address` itself to drain and to end. */
  async quit(address: string): Promise<void> {
    await quit(address, { timeoutMs: this.#timeoutMs });
  }

  /** Prints rows to standard output; json prints `answer`, by default the rows as they came. */
  show<T>(rows: readonly T[], shape: readonly Column<T>[], answer: unknown = rows): void {
    this.host.stdout.write(render(this.format, rows, shape, answer));
  }

  /** A sentence for people on standard output; formats that a program reads get it on standard error. */
  say(text: string): void {
    const forEyes = this.format === 'table' || this.format === 'tsv';
    (forEyes ? this.host.stdout : this.host.stderr).write(`${text}\n`);
  }

  warn(text: string): void {
    this.host.stderr.write(`warning: ${text}\n`);
  }
}
