/** One line of the printed table. */
export interface Figure {
  readonly what: string;
  /** As it is to be read: with its unit. */
  readonly value: string;
}

export interface Benchmark {
  readonly name: string;
  /** What is measured and on what, a sentence. */
  readonly about: string;
  /** `note` hears what is going on. */
  run(note: (text: string) => void): Promise<Figure[]>;
}

export function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

export function seconds(valueMs: number): string {
  return `${(valueMs / 1000).toFixed(2)} s`;
}

export function mib(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
