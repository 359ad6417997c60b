import { cp, lstat, mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Starts } from '../../../src/node/starts.ts';
import { prepareStore, storePaths } from '../../../src/node/store-dir.ts';

let scratch: string;
let store: string;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'pgtide-starts-'));
  store = join(scratch, 'n2');
  await mkdir(store);
});
afterEach(() => rm(scratch, { recursive: true }));

const begin = (dir = store) => Starts.begin(storePaths(dir));
const copy = async (name: string) => {
  const dir = join(scratch, name);
  await cp(store, dir, { recursive: true, preserveTimestamps: true });
  return dir;
};

test('a start on the same directory knows those before, however they went', async () => {
  const first = await begin();
  expect(first.claim).toEqual({ id: first.id, after: null, ended: [] });
  const second = await begin();
  expect(second.claim).toEqual({ id: second.id, after: [first.id], ended: [first.id] });
  await second.end();
  const third = await begin();
  expect(third.claim).toMatchObject({ after: [first.id, second.id], ended: [first.id, second.id] });
  expect(new Set([first.id, second.id, third.id]).size).toBe(3);
});

test('a copy of a store whose node runs does not know it to have ended; one that was made after its end does', async () => {
  const running = await begin();
  const early = await begin(await copy('early'));
  expect(early.claim).toMatchObject({ after: [running.id], ended: [] });
  await running.end();
  const late = await begin(await copy('late'));
  expect(late.claim).toMatchObject({ after: [running.id], ended: [running.id] });
  expect(early.id).not.toBe(late.id);
});

test('what another start has may be had when this one has taken its place, or knows that it has ended', async () => {
  const running = await begin();
  const early = await begin(await copy('early'));
  expect(early.mayHave(early.id)).toBe(true);
  expect(early.mayHave(running.id)).toBe(false);
  await early.admit();
  expect(early.mayHave(running.id)).toBe(true);
  expect(early.mayHave('stranger')).toBe(false);
  expect((await begin()).mayHave(running.id)).toBe(true);
});

test('whom it has heard manage outlives it', async () => {
  const first = await begin();
  expect(first.managedBy).toBeNull();
  await first.heardManager({ node: 1, start: 'x' });
  expect((await begin()).managedBy).toEqual({ node: 1, start: 'x' });
});

test('the note is bounded, and starts that were never the node push out none that was', async () => {
  const starts = Array.from({ length: 3_000 }, (_, i) => ({
    id: `s${i}`,
    place: null,
    admitted: i === 7,
    ended: true,
  }));
  await writeFile(join(store, 'node.lock.starts'), JSON.stringify({ starts, managedBy: null }));
  const { after } = (await begin()).claim;
  expect(after?.[0]).toBe('s7');
  expect(after?.at(-1)).toBe('s2999');
  expect(after?.length).toBeLessThan(1_000);
});

test('a damaged note is no start; a link is not followed, nor written through', async () => {
  const file = join(store, 'node.lock.starts');
  await writeFile(file, '{"starts":');
  await expect(begin()).rejects.toMatchObject({ code: 'STORE_DAMAGED' });
  const elsewhere = join(scratch, 'elsewhere');
  await writeFile(elsewhere, 'theirs');
  await rm(file);
  await symlink(elsewhere, file);
  await expect(begin()).rejects.toMatchObject({ code: 'STORE_UNUSABLE' });
  await rm(file);
  await symlink(elsewhere, `${file}.new`);
  await begin();
  expect((await lstat(file)).isFile()).toBe(true);
  expect(await readFile(elsewhere, 'utf8')).toBe('theirs');
  await expect(readlink(`${file}.new`)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('the note is among the names of a store', async () => {
  await begin();
  await expect(prepareStore(store)).resolves.toMatchObject({ root: store });
});
