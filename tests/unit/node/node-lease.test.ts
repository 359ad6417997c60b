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
  const start = { id: 's2', mayHave: (id: string) => id === 's2' || id === 's1' };
  lease = new NodeLease({ store: line, node: 1, start, file, serving: false, isFenced: () => isFenced, log: () => {} });
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

test('a lease is taken over from a start that this one has taken the place of, and from no other', async () => {
  await lease.end();
  const put = async (start: string) => {
    const other = await line.grant(60_000);
    await line.txn({ when: [], write: [{ put: '/lease/1', value: { lease: other, start }, lease: other }] });
  };
  const again = () =>
    new NodeLease({
      store: line,
      node: 1,
      start: { id: 's2', mayHave: (id) => id === 's2' || id === 's1' },
      file: join(scratch, 'lease'),
      serving: false,
      isFenced: () => true,
      log: (_level, _message, facts) => void logged.push(JSON.stringify(facts)),
    });
  const logged: string[] = [];
  await put('copy');
  lease = again();
  await lease.start();
  await until(() => logged.some((facts) => facts.includes('another start of this node holds its lease')));
  expect(lease.leftMs).toBe(0);
  expect((await line.get('/lease/1'))?.value).toMatchObject({ start: 'copy' });
  await put('s1');
  await until(() => lease.leftMs > 0);
  expect((await line.get('/lease/1'))?.value).toMatchObject({ start: 's2' });
});
