import { expect, test } from 'vitest';
import { cityBook, contentHash, readCities } from '../../../src/demo/cities.ts';

const city = (name: string) => ({
  name,
  country: 'AD',
  featureCode: 'PPL',
  adminCode: '',
  population: 1052,
  lon: 1.65362,
  lat: -42.5,
});

test('a city becomes a line of COPY, its text escaped', () => {
  const [line] = cityBook([city('a\tb\\c\nd')], 1).lines();
  expect(line).toBe('1\ta\\tb\\\\c\\nd\tAD\t\tPPL\t1052\t1.65362\t-42.50000');
});

test('more rows than cities: another round under ids of its own', () => {
  const book = cityBook([city('x'), city('y')], 5);
  expect([0, 1, 2, 3, 4].map((index) => book.at(index))).toMatchObject([
    { id: 1, name: 'x' },
    { id: 2, name: 'y' },
    { id: 3, name: 'x' },
    { id: 4, name: 'y' },
    { id: 5, name: 'x' },
  ]);
  expect([...book.lines()].map((line) => Number(line.split('\t')[0]))).toEqual([1, 2, 3, 4, 5]);
});

test('the hash tells other contents', () => {
  expect(contentHash(cityBook([city('x'), city('y')], 2))).not.toBe(contentHash(cityBook([city('x'), city('z')], 2)));
});

test('the package holds 138,398 real cities', async () => {
  const book = await readCities();
  expect(book.count).toBe(138_398);
  expect(book.at(0)).toEqual({ id: 1, name: 'El Tarter', country: 'AD', population: 1052 });
  expect((await readCities(10)).count).toBe(10);
});
