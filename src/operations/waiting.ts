import type { NodeId, Settings } from '../catalog/model.ts';
import { shownSql } from '../core/redact.ts';
import type { WaitReason } from '../core/wait-reason.ts';
import type { Blocker } from './ports.ts';

/** Sentences for what an operation waits for. */

export function waitFor(kind: WaitReason['kind'], text: string, node: NodeId | null = null): WaitReason {
  return { kind, text, node, pid: null, user: null, query: null, ageSeconds: null };
}

/** Its text stays the same for as long as the wait lasts: how long that is, is told beside it. */
export function waitForAnswer(nodes: readonly NodeId[], what: string, ms: number): WaitReason {
  const [first] = nodes;
  const who = nodes.length === 1 ? `node ${first}` : `nodes ${nodes.join(' and ')}`;
  const node = nodes.length === 1 ? (first ?? null) : null;
  return { ...waitFor('node', `an answer of ${who} (${what})`, node), ageSeconds: Math.round(ms / 100) / 10 };
}

/**
 * Names the transaction in the way: where, which process, who, how old, and its statement, without its
 * literals unless `settings` shows them.
 */
export function waitForTransaction(
  settings: Pick<Settings, 'show_query_literals'>,
  node: NodeId,
  blocker: Blocker,
  why: string,
): WaitReason {
  const ageSeconds = Math.max(0, Math.round(blocker.ageMs / 100) / 10);
  const via = blocker.application ? ` (${blocker.application})` : '';
  const doing = blocker.state ? `, ${blocker.state}` : '';
  const query =
    blocker.query === null ? null : shownSql(blocker.query, settings.show_query_literals ? 'shown' : 'hidden');
  return {
    kind: 'transaction',
    text: `${why}: ${blocker.processId === 0 ? 'one' : `pid ${blocker.processId}`} of ${blocker.user ?? 'unknown'}${via} on node ${node}, open for ${ageSeconds} s${doing}${query ? `: ${query}` : ''}`,
    node,
    pid: blocker.processId,
    user: blocker.user,
    query,
    ageSeconds,
  };
}
