import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { NodeLease, readLeaseNote } from '../../../src/node/node-lease.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { Line } from './support/line.ts';

/** The shortest there is: of four seconds the node gives up the last three. */
const SECONDS = 4;

let scratch: string;
let line: Line;
let lease: NodeLease;
let isFenced: boolean;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'pgtide-lease-'));
  line = new Line(new MemoryStore());
  isFenced = true;
  const file = join(scratch, 'lease');
  lease = new NodeLease({ store: line, node: 1, file, serving: false, isFenced: () => isFenced, log: () => {} });
  lease.setLength(SECONDS);
  await lease.start();
  await until(() => lease.leftMs > 0);
});

afterEach(async () => {
  await lease.end();
  await rm(scratch, { recursive: true });
});

const until = (what: () => boolean | Promise<boolean>) => vi.waitUntil(what, { timeout: 10_000, interval: 10 });

test('the lease is noted for the watchdog, and kept', async () => {
  const noted = () => readLeaseNote(join(scratch, 'lease'));
  await until(async () => (await noted())?.owner === process.pid);
  const first = await noted();
  await until(async () => ((await noted())?.untilMs ?? 0) > (first?.untilMs ?? 0));
});

test('a node whose right has lapsed takes no new one before its fence is up', async () => {
  isFenced = false;
  line.cut = true;
  await until(() => lease.graceMs === 0);
  const asked = vi.spyOn(line, 'grant');
  line.cut = false;
  await sleep(500);
  expect(asked).not.toHaveBeenCalled();
  expect(lease.graceMs).toBe(0);
  isFenced = true;
  await until(() => lease.leftMs > 0);
});
