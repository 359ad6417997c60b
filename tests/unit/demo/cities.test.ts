import { expect, test } from 'vitest';
import { cityBook, contentHash, readCities } from '../../../src/demo/cities.ts';

const city = (cityId: number, name: string) => ({
  cityId,
  name,
  country: 'AD',
  featureCode: 'PPL',
  adminCode: '',
  population: 1052,
  loc: { type: 'Point' as const, coordinates: [1.65362, -42.5] as [number, number] },
});

test('a city becomes a line of COPY, its text escaped', () => {
  const [line] = cityBook([city(7, 'a\tb\\c\nd')], 1).lines();
  expect(line).toBe('7\ta\\tb\\\\c\\nd\tAD\t\tPPL\t1052\t1.65362\t-42.50000');
});

test('more rows than cities: another round under ids of its own', () => {
  const book = cityBook([city(9, 'x'), city(7, 'y')], 5);
  expect([0, 1, 2, 3, 4].map((index) => book.at(index).id)).toEqual([9, 7, 100_000_009, 100_000_007, 200_000_009]);
  expect([...book.lines()].map((line) => Number(line.split('\t')[0]))).toEqual([
    9, 7, 100_000_009, 100_000_007, 200_000_009,
  ]);
});

test('the hash does not depend on the order of the source', () => {
  const [x, y] = [city(9, 'x'), city(7, 'y')];
  expect(contentHash(cityBook([x, y], 2))).toBe(contentHash(cityBook([y, x], 2)));
  expect(contentHash(cityBook([x, y], 2))).not.toBe(contentHash(cityBook([x, city(7, 'z')], 2)));
});

test('the package holds real cities, each id once', async () => {
  const book = await readCities();
  const ids = new Set(Array.from({ length: book.count }, (_, index) => book.at(index).id));
  expect(book.count).toBeGreaterThan(130_000);
  expect(ids.size).toBe(book.count);
  expect((await readCities(10)).count).toBe(10);
});
