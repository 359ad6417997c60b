import type { Clock } from '../../../src/core/clock.ts';
import { tideError } from '../../../src/core/errors.ts';
import type { MetaStore, Write } from '../../../src/store/meta-store.ts';

const never = new Promise<never>(() => {});

/** The process a manager runs in: killed, nothing it was about to do is done; frozen, it is done later. */
export class ManagerProcess {
  killed = false;
  #frozen: { over: Promise<void>; thaw: () => void } | null = null;

  freeze(): void {
    let thaw: () => void = () => {};
    const over = new Promise<void>((resolve) => {
      thaw = resolve;
    });
    this.#frozen ??= { over, thaw };
  }

  thaw(): void {
    this.#frozen?.thaw();
    this.#frozen = null;
  }

  /** Comes back as soon as the process may go on; never, where it was killed. */
  async turn(): Promise<void> {
    while (this.#frozen && !this.killed) await this.#frozen.over;
    if (this.killed) await never;
  }

  clock(clock: Clock): Clock {
    return {
      nowMs: () => clock.nowMs(),
      sleep: async (ms, signal) => {
        await clock.sleep(ms, signal);
        await this.turn();
      },
    };
  }

  /** `written`: told of every write that went through, before the writer hears of it. */
  store(store: MetaStore, written: (write: Write) => void): MetaStore {
    let closed = false;
    const inTurn = async <T>(work: () => Promise<T>): Promise<T> => {
      await this.turn();
      if (closed) throw tideError('NO_MANAGER', { manager: 'this node', why: 'its store is closed' });
      const result = await work();
      await this.turn();
      return result;
    };
    return {
      isFull: false,
      get: (key) => inTurn(() => store.get(key)),
      range: (prefix) => inTurn(() => store.range(prefix)),
      txn: (request) =>
        inTurn(async () => {
          const result = await store.txn(request);
          if (result.ok) for (const write of request.write) written(write);
          return result;
        }),
      close: async () => {
        closed = true;
      },
    };
  }
}
