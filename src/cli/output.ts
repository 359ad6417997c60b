import { snakeCase } from '../core/snake-case.ts';
import { humanBytes, humanSeconds, sqlTime } from '../core/units.ts';

/** Rendering of results: pure, rows and columns in, text out. */

export const FORMATS = ['table', 'json', 'csv', 'tsv'] as const;
export type Format = (typeof FORMATS)[number];

type Cell = string | number | boolean | null;
/**
 * What a number means; only the table format shows it, everything else prints the number. `time` is an ISO
 * string; `age`: milliseconds since something was measured, null where it has not been.
 */
type Unit = 'bytes' | 'bytesPerSecond' | 'seconds' | 'percent' | 'ms' | 'time' | 'age';

export interface Column<T> {
  name: string;
  value: (row: T) => Cell;
  unit?: Unit;
}

/**
 * Columns named after fields, in KWDB's spelling: `isLive` is `is_live`. A field may carry its unit:
 * `bytes:bytes`.
 */
export function columns<T>(...fields: (Field<T> | `${Field<T>}:${Unit}`)[]): Column<T>[] {
  return fields.map((field) => {
    const [key, unit] = field.split(':') as [Field<T>, Unit | undefined];
    // An older manager does not say what came later.
    const column: Column<T> = { name: snakeCase(key), value: (row) => (row[key] ?? null) as Cell };
    return unit === undefined ? column : { ...column, unit };
  });
}
type Field<T> = { [K in keyof T & string]: T[K] extends Cell ? K : never }[keyof T & string];

/** Renders rows; every format ends with a newline. `answer` is what json prints: the API's own answer. */
export function render<T>(format: Format, rows: readonly T[], shape: readonly Column<T>[], answer: unknown): string {
  if (format === 'json') return `${JSON.stringify(answer, null, 2)}\n`;
  if (format === 'table') return table(rows, shape);
  const separator = format === 'csv' ? ',' : '\t';
  const lines = [shape.map((column) => column.name), ...rows.map((row) => shape.map((column) => plain(column, row)))];
  // RFC 4180 ends records with CR LF; tsv follows the line ends of Unix tools.
  const end = format === 'csv' ? '\r\n' : '\n';
  return lines.map((cells) => cells.map((cell) => quoted(cell, separator)).join(separator) + end).join('');
}

function plain<T>(column: Column<T>, row: T): string {
  const value = column.value(row);
  if (value === null) return '';
  return column.unit === 'time' ? sqlTime(String(value)) : String(value);
}

/** RFC 4180, section 2, rules 5-7; tsv takes the same quoting, as KWDB's does. */
function quoted(cell: string, separator: string): string {
  return cell.includes(separator) || /["\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** psql's and KWDB's look: header, rule, rows, `(N rows)`; numbers to the right. */
function table<T>(rows: readonly T[], shape: readonly Column<T>[]): string {
  const cells = rows.map((row) => shape.map((column) => human(column, row)));
  const widths = shape.map((column, at) =>
    Math.max(displayWidth(column.name), ...cells.map((line) => displayWidth(line[at] ?? ''))),
  );
  const right = shape.map(
    (column) => column.unit !== 'time' && rows.some((row) => typeof column.value(row) === 'number'),
  );
  const line = (texts: string[]) =>
    `  ${texts.map((text, at) => padded(text, widths[at] ?? 0, right[at] ?? false)).join(' | ')}`.trimEnd();
  const rule = widths.map((width, at) => '-'.repeat(width + (at === 0 ? 3 : 2))).join('+');
  const count = rows.length === 1 ? '(1 row)' : `(${rows.length} rows)`;
  return `${[line(shape.map((column) => column.name)), rule, ...cells.map(line), count].join('\n')}\n`;
}

function human<T>(column: Column<T>, row: T): string {
  const value = column.value(row);
  if (value === null) return column.unit === 'age' ? 'not measured yet' : '-';
  if (column.unit === 'time') return sqlTime(String(value));
  if (typeof value !== 'number') return String(value).replace(/\s+/g, ' ');
  if (column.unit === 'bytes') return humanBytes(value);
  if (column.unit === 'bytesPerSecond') return `${humanBytes(value)}/s`;
  if (column.unit === 'seconds') return humanSeconds(value);
  if (column.unit === 'percent') return `${Math.floor(value)} %`;
  if (column.unit === 'age') return `${humanSeconds(value / 1000)} ago`;
  if (column.unit === 'ms') return `${Number(value.toFixed(1))} ms`;
  return String(value);
}

function padded(text: string, width: number, right: boolean): string {
  const gap = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return right ? gap + text : text + gap;
}

/**
 * Columns a text takes on a terminal: East Asian wide characters take two (Unicode TR 11, the blocks in daily
 * use).
 */
function displayWidth(text: string): number {
  return [...text].reduce((sum, char) => sum + (WIDE.test(char) ? 2 : 1), 0);
}
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/;
