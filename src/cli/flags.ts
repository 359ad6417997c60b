import { InvalidArgumentError } from 'commander';

/** Parsers of flag values. They throw commander's InvalidArgumentError, which `runCli` turns into USAGE. */

/** A parser of whole numbers from `min` to `max`. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max))
      throw new InvalidArgumentError(`It has to be a whole number from ${min} to ${max}.`);
    return value;
  };
}

export const positive = integer(1, Number.MAX_SAFE_INTEGER);

/**
 * HOST:PORT with what was left out filled in: `:7000` and `10.0.0.1` are addresses too. A missing host is
 * 127.0.0.1: an insecure cluster on every interface has to be asked for (`0.0.0.0:7000`).
 */
export function address(defaultPort: number): (text: string) => string {
  return (text) => {
    const parts = /^(\[[0-9a-fA-F:.]+\]|[^\s:/[\]]*)(?::(\d*))?$/.exec(text);
    if (!parts || text === '') throw new InvalidArgumentError('It has to be HOST:PORT.');
    const port = parts[2] ? Number(parts[2]) : defaultPort;
    if (port < 1 || port > 65_535) throw new InvalidArgumentError(`Port ${port} is not between 1 and 65535.`);
    return `${parts[1] || '127.0.0.1'}:${port}`;
  };
}

/** The host of a checked HOST:PORT. */
export function hostOf(checked: string): string {
  return checked.slice(0, checked.lastIndexOf(':'));
}

/** Addresses, comma-separated, the flag possibly repeated. */
export function addresses(defaultPort: number): (text: string, before: string[]) => string[] {
  const one = address(defaultPort);
  return (text, before) => [...before, ...text.split(',').map((part) => one(part.trim()))];
}

/** `key=value,key=value`; checked, kept as text. */
export function locality(text: string): string {
  const bad = text.split(',').find((tier) => !/^[^=,\s]+=[^=,\s]+$/.test(tier));
  if (bad !== undefined) throw new InvalidArgumentError(`'${bad}' is not KEY=VALUE.`);
  return text;
}

/** `ssd,fast`; checked, kept as text. */
export function attributes(text: string): string {
  if (!/^[^,\s]+(,[^,\s]+)*$/.test(text)) throw new InvalidArgumentError('It has to be a list of words: ssd,fast.');
  return text;
}

/** Names of nodes, comma-separated. */
export function list(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.includes('')) throw new InvalidArgumentError('A name is empty.');
  return names;
}

/** Without the keys whose value is undefined: a request says nothing about what the user did not say. */
export function given<T extends object>(flags: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
