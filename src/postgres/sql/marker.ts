import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../catalog/model.ts';
import type { Sql } from './client.ts';

/**
 * Raises the node's marker and returns its new value: whatever the node wrote before has a lower place in
 * every stream it sends.
 */
export async function writeMarker(sql: Sql, node: NodeId): Promise<string> {
  const [row] = await sql.query<{ value: string }>(
    `insert into tide.marker as m values ($1, 1) on conflict (src) do update set value = m.value + 1 returning value`,
    [node],
  );
  return row?.value ?? '0';
}

/**
 * Between two looks for a marker, at the most: a swing waits for one while it holds its lock, and looks more
 * often at first.
 */
const MARKER_POLL_MS = 20;

/**
 * True once the receiver has applied the marker; false when `timeoutMs` ran out. The server is asked over and
 * over: what it sleeps itself ends by a clock that may be set back meanwhile, and its session would stay,
 * with its snapshot, for as long as that.
 */
export async function awaitMarker(sql: Sql, from: NodeId, value: string, timeoutMs: number): Promise<boolean> {
  const sinceMs = performance.now();
  for (;;) {
    const [row] = await sql.query<{ arrived: boolean }>('select tide.await_marker($1, $2, 0) as arrived', [
      from,
      value,
    ]);
    const waitedMs = performance.now() - sinceMs;
    if (row?.arrived) return true;
    if (waitedMs >= timeoutMs) return false;
    await sleep(Math.min(1 + waitedMs / 10, MARKER_POLL_MS, timeoutMs - waitedMs));
  }
}
