import type { BeatAnswer } from '../api/membership.ts';
import { messageOf } from '../core/errors.ts';
import type { PostgresServer } from '../postgres/server.ts';

export interface FenceKeeperOptions {
  server: PostgresServer;
  /** The fence has been raised or lowered, which the manager waits to hear. */
  onChange(): void;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/** Raises and lowers the fence of a node's PostgreSQL as the manager says (DESIGN 4.4). */
export class FenceKeeper {
  readonly #options: FenceKeeperOptions;
  #changing = false;

  constructor(options: FenceKeeperOptions) {
    this.#options = options;
  }

  /** `pid`: the server that the answer is about; a permission is nobody else's, least of all that of a server started since. */
  obey(answer: BeatAnswer, pid: number | null): void {
    const { server, onChange, log } = this.#options;
    if (pid === null || answer.fence === 'keep' || this.#changing) return;
    const wanted = answer.fence === 'up';
    if (wanted ? server.fenced : server.letsIn) return;
    this.#changing = true;
    const change = wanted ? server.fence() : server.unfence(pid);
    change
      .then(() => log(wanted ? 'warn' : 'info', wanted ? 'PostgreSQL is fenced' : 'PostgreSQL serves', { pid }))
      .catch((error) => log('error', 'the fence could not be changed', { error: messageOf(error) }))
      .finally(() => {
        this.#changing = false;
        onChange();
      });
  }
}

/** What a node that does not serve yet waits for. A fenced one may have lost its partitions to others: it serves when it knows. */
export function waitText(answer: BeatAnswer | null, fenced: boolean): string {
  if (!answer) return `waits for the manager to answer${fenced ? '; until then its PostgreSQL lets nobody in' : ''}`;
  if (answer.fence === 'up')
    return 'lets nobody in until what it led before has been taken from it (tide op ls, tide node recover)';
  return 'waits for the cluster to take it in (tide op ls)';
}
