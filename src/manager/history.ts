import type { Clock } from '../core/clock.ts';
import { messageOf, TideError } from '../core/errors.ts';
import { Rounds } from '../core/rounds.ts';
import type { Runner } from '../operations/runner.ts';

export interface HistoryPorts {
  clock: Clock;
  runner: Pick<Runner, 'forgetOld'>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

const EVERY_MS = 10_000;

/**
 * Forgets, in the background, the operations that have ended and are to be kept no more: who looks and what
 * it costs waits for nobody.
 */
export class History {
  readonly #ports: HistoryPorts;
  readonly #rounds: Rounds<'operations'>;
  #nextMs = 0;

  constructor(ports: HistoryPorts) {
    this.#ports = ports;
    this.#rounds = new Rounds((_key, error) => {
      // Told of by the manager itself; there is nothing that has to be forgotten at once.
      if (error instanceof TideError && error.code === 'META_FULL') return;
      ports.log('warn', 'old operations could not be forgotten', { error: messageOf(error) });
    });
  }

  round(): void {
    const { clock, runner } = this.#ports;
    if (clock.nowMs() < this.#nextMs) return;
    this.#nextMs = clock.nowMs() + EVERY_MS;
    this.#rounds.begin(['operations'], () => runner.forgetOld());
  }

  idle(): Promise<void> {
    return this.#rounds.idle();
  }
}
