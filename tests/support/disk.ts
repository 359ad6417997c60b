import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, rmSync, statfsSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a test says, loudly, where it cannot have a disk of its own. */
export const NO_MOUNT = 'a file system cannot be mounted here (it takes root): full disks are NOT tested';

/** A small disk of its own (tmpfs), which can be filled. */
export class SmallDisk {
  readonly path: string;
  #fillers = 0;

  private constructor(path: string) {
    this.path = path;
  }

  /** Null where nothing may be mounted. */
  static mount(megabytes: number): SmallDisk | null {
    const path = mkdtempSync(join(tmpdir(), 'pgtide-disk-'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=755`, 'tmpfs', path], { stdio: 'ignore' });
    } catch {
      rmdirSync(path);
      return null;
    }
    return new SmallDisk(path);
  }

  /** A directory in it, under another name: what removes that name leaves the disk alone. */
  linkFrom(name: string): void {
    symlinkSync(this.path, name);
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  get totalBytes(): number {
    const { blocks, bsize } = statfsSync(this.path);
    return blocks * bsize;
  }

  get usedBytes(): number {
    const { blocks, bfree, bsize } = statfsSync(this.path);
    return (blocks - bfree) * bsize;
  }

  /** Takes all room but `leaveBytes`, also what has come free since it was done before. */
  fill(leaveBytes = 0): void {
    while (this.freeBytes > leaveBytes) {
      const bytes = Math.min(this.freeBytes - leaveBytes, 64 << 20);
      try {
        writeFileSync(this.#filler(this.#fillers++), Buffer.alloc(bytes, 1));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        return;
      }
    }
  }

  /** Gives back what `fill` has taken. */
  clear(): void {
    while (this.#fillers > 0) rmSync(this.#filler(--this.#fillers), { force: true });
  }

  #filler(part: number): string {
    return join(this.path, `filler-${part}`);
  }

  unmount(): void {
    execFileSync('umount', ['-l', this.path], { stdio: 'ignore' });
    rmdirSync(this.path);
  }
}
