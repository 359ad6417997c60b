import type { NodeStatusRow } from '../api/results.ts';
import { tideError } from '../core/errors.ts';
import { few } from '../core/lists.ts';
import type { Session } from './session.ts';

/**
 * Ids of the nodes a user named, each by id (`4`, or `n4` as in a move's text) or HOST:PORT. Throws
 * NODE_UNKNOWN.
 */
export async function resolveNodes(session: Session, names: readonly string[]): Promise<number[]> {
  if (names.every(isId)) return names.map(idOf);
  const nodes = await session.call({ do: 'node-status' });
  return names.map((name) => (isId(name) ? idOf(name) : byEndpoint(nodes, name).id));
}

/** The id of one named node; errors as for `resolveNodes`. */
export async function resolveNode(session: Session, name: string): Promise<number> {
  return (await resolveNodes(session, [name]))[0] ?? 0;
}

/** Addresses of the nodes a user named, by id or HOST:PORT. Throws NODE_UNKNOWN. */
export async function resolveEndpoints(session: Session, names: readonly string[]): Promise<string[]> {
  const nodes = await session.call({ do: 'node-status' });
  return names.map((name) => {
    const found = isId(name) ? nodes.find((node) => node.id === idOf(name)) : byEndpoint(nodes, name);
    if (!found) throw unknown(nodes, name);
    return found.address;
  });
}

function isId(name: string): boolean {
  return /^n?\d+$/.test(name);
}

function idOf(name: string): number {
  return Number(name.replace('n', ''));
}

/** An address may have been used again by a node that joined later: the highest id holds it now. */
function byEndpoint(nodes: readonly NodeStatusRow[], endpoint: string): NodeStatusRow {
  const holders = nodes.filter((node) => [node.address, node.sqlAddress, node.httpAddress].includes(endpoint));
  const found = holders.toSorted((a, b) => b.id - a.id)[0];
  if (!found) throw unknown(nodes, endpoint);
  return found;
}

function unknown(nodes: readonly NodeStatusRow[], name: string) {
  const known = few(nodes.map((node) => `n${node.id} ${node.address}`));
  return tideError('NODE_UNKNOWN', { node: name, known: known === '' ? 'no nodes' : known });
}
