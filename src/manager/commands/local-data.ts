import type { LocalDataRow } from '../../api/results.ts';
import type { NodeId } from '../../catalog/model.ts';
import type { LocalData } from '../../core/local-data.ts';
import { type LocalFindings, takesAlong } from '../../placement/preflight.ts';
import { type CommandContext, throwAll } from './context.ts';

/** What nodes that are to leave hold alone. */
export interface Looked {
  readonly found: LocalFindings;
  /** Nodes whose PostgreSQL the manager cannot ask. */
  readonly notLookedAt: readonly NodeId[];
}

/**
 * Asks all of them at once. A node that should answer and does not: NODE_UNREACHABLE, unless `abandon` gives
 * up what may be there.
 */
export async function lookForLocalData(c: CommandContext, nodes: readonly NodeId[], abandon: boolean): Promise<Looked> {
  const asked = nodes.filter((id) => c.load.reachable(id));
  const answers = await Promise.allSettled(asked.map((id) => c.inspector.localData(id)));
  const found = new Map<NodeId, readonly LocalData[]>();
  const notLookedAt = nodes.filter((id) => !asked.includes(id));
  for (const [at, answer] of answers.entries()) {
    const id = asked[at] ?? 0;
    if (answer.status === 'fulfilled') found.set(id, answer.value);
    else if (abandon) notLookedAt.push(id);
    else throw answer.reason;
  }
  return { found, notLookedAt };
}

/** Throws LOCAL_TABLES where the node would take something along that nobody has given up. */
export function requireNothingLocal({ found }: Looked, node: NodeId, abandon: boolean): void {
  if (!abandon) throwAll(takesAlong(node, found.get(node) ?? []));
}

/** For whoever has given it up: what it was. */
export function localDataRows({ found }: Looked): LocalDataRow[] {
  return [...found].flatMap(([node, data]) => data.map((each) => ({ node, ...each })));
}
