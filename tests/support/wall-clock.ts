import { chmodSync, copyFileSync, existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findFaketime } from '../../scripts/faketime.mjs';
import { must } from '../../src/core/assert.ts';

/** Null where there is no libfaketime on this machine, which has been said loudly. */
export const FAKETIME = findFaketime();

const SHARED = '/dev/shm';

/**
 * The clock by which people live, as the processes of one node see it: it can be set while they run. The
 * monotonic clock stays the system's.
 */
export class WallClock {
  readonly #file: string;
  /**
   * A command that runs a node under this clock: what `LocalCluster.addNode` has to know. PostgreSQL inherits
   * it.
   */
  readonly within: readonly string[];

  /** `dir`: one that PostgreSQL's user can read too. */
  constructor(dir: string, name: string) {
    const library = join(dir, 'libfaketime.so');
    if (!existsSync(library)) copyFileSync(must(FAKETIME, 'libfaketime'), library);
    chmodSync(library, 0o755);
    this.#file = join(dir, `clock-${name}`);
    this.set(0);
    const environment = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
    };
    this.within = ['env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)];
  }

  /**
   * Of processes that were killed: libfaketime names its semaphores by process, and one of another user in
   * its place, as PostgreSQL is when root runs the node, would end at once.
   */
  static #forgetDead(): void {
    const left = existsSync(SHARED) ? readdirSync(SHARED) : [];
    for (const name of left) {
      const [, pid] = /^(?:sem\.)?faketime_(?:sem|shm)_(\d+)$/.exec(name) ?? [];
      if (pid !== undefined && !existsSync(join('/proc', pid))) rmSync(join(SHARED, name), { force: true });
    }
  }

  /** From now on it says the true time and so many seconds. */
  set(seconds: number): void {
    WallClock.#forgetDead();
    writeFileSync(`${this.#file}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    chmodSync(`${this.#file}.new`, 0o644);
    renameSync(`${this.#file}.new`, this.#file);
  }
}
