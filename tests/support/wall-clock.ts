import { chmodSync, copyFileSync, existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findFaketime } from '../../scripts/faketime.mjs';
import { must } from '../../src/core/assert.ts';

/** Null where there is no libfaketime on this machine, which has been said loudly. */
export const FAKETIME = findFaketime();

/**
 * The clock by which people live, as the processes of one node see it: it can be set while they run. The monotonic clock stays the system's.
 */
export class WallClock {
  readonly #file: string;
  /** A command that runs a node under this clock: what `LocalCluster.addNode` has to know. PostgreSQL inherits it. */
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
      // Shared memory of one user's process could not be opened by another's, as PostgreSQL is when root runs the node.
      FAKETIME_DISABLE_SHM: '1',
    };
    this.within = ['env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)];
  }

  /** From now on it says the true time and so many seconds. */
  set(seconds: number): void {
    writeFileSync(`${this.#file}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    chmodSync(`${this.#file}.new`, 0o644);
    renameSync(`${this.#file}.new`, this.#file);
  }
}
