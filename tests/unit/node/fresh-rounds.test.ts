import { expect, test } from 'vitest';
import { FreshRounds } from '../../../src/node/fresh-rounds.ts';

test('whoever asks while a round runs gets the next, together with all others; a failed one holds up nobody', async () => {
  const ends: { resolve: () => void; reject: (error: Error) => void }[] = [];
  const rounds = new FreshRounds(() => new Promise((resolve, reject) => ends.push({ resolve, reject })));
  const told: string[] = [];
  const ask = (who: string) =>
    rounds.next().then(
      () => told.push(who),
      () => told.push(`${who} failed`),
    );
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  void ask('first');
  void ask('second');
  void ask('third');
  expect(ends).toHaveLength(1);
  ends[0]?.resolve();
  await turn();
  expect(told).toEqual(['first']);
  expect(ends).toHaveLength(2);
  void ask('fourth');
  ends[1]?.reject(new Error('away'));
  await turn();
  expect(told).toEqual(['first', 'second failed', 'third failed']);
  expect(ends).toHaveLength(3);
  ends[2]?.resolve();
  await turn();
  expect(told.at(-1)).toBe('fourth');
});
