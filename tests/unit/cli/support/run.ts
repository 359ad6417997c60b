import type { AdminCommand } from '../../../../src/api/commands.ts';
import { runCli } from '../../../../src/cli/main.ts';
import { FakeHost } from './fake-host.ts';
import { FakeNode } from './fake-node.ts';
import { World } from './world.ts';

export interface Ran {
  status: number;
  stdout: string;
  stderr: string;
  /** Both, in the order of writing. */
  transcript: string;
  asked: AdminCommand[];
  host: FakeHost;
}

export interface RunOptions {
  /** Prepares the world before the command. */
  given?: (world: World, host: FakeHost, node: FakeNode) => void;
  terminals?: { stdout: boolean; stderr: boolean };
}

/**
 * What the documented addresses of nodes 1 to 4 are; the fake ones are put in their place, and back in what
 * is printed.
 */
const DOCUMENTED = ['127.0.0.1:26257', '127.0.0.1:26258', '127.0.0.1:26259', '127.0.0.1:26260'];

/** Runs one command line against a fresh fake cluster. */
export async function tide(line: string, options: RunOptions = {}): Promise<Ran> {
  const nodes = DOCUMENTED.map((_, at) => new FakeNode(at + 1, (command) => world.answer(command)));
  const addresses = await Promise.all(nodes.map((node) => node.listen()));
  const world = new World(addresses);
  const host = new FakeHost({ TIDE_HOST: addresses[0] ?? '' }, options.terminals ?? { stdout: true, stderr: false });
  if (nodes[0]) options.given?.(world, host, nodes[0]);
  const status = await runCli(words(swap(line, DOCUMENTED, addresses)), host);
  await Promise.all(nodes.map((node) => node.close()));
  const back = (text: string) => swap(text, addresses, DOCUMENTED);
  return {
    status,
    stdout: back(host.out),
    stderr: back(host.err),
    transcript: back(host.transcript),
    asked: nodes.flatMap((node) => node.asked),
    host,
  };
}

function swap(text: string, from: readonly string[], to: readonly string[]): string {
  return from.reduce((result, address, at) => result.replaceAll(address, to[at] ?? ''), text);
}

/** Splits as a shell does, as far as the examples need it: blanks, single quotes. */
export function words(line: string): string[] {
  return [...line.matchAll(/(?:'([^']*)'|[^\s']+)+/g)].map((match) => match[0].replaceAll("'", ''));
}
