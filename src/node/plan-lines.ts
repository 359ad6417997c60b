import type { MoveRow, PlanResult } from '../api/results.ts';
import { humanBytes } from '../core/units.ts';

/** A plan as EXPLAIN shows one, a line each. */
export function planLines({ moves, balance, bytesMoved, bytesMinimal, blocked }: PlanResult): string[] {
  if (moves.length === 0 && blocked.length === 0) return ['Nothing to do'];
  return [
    `Moves: ${moves.length}, ${humanBytes(bytesMoved)} (at least ${humanBytes(bytesMinimal)})`,
    ...moves.map((move) => `  ->  ${moveLine(move)}`),
    ...blocked.map(
      ({ table, pid, node, why }) => `  ->  Blocked: ${table} ${pid}${node === null ? '' : ` on n${node}`}: ${why}`,
    ),
    ...balance.map(
      (b) =>
        `Node ${b.node}: replicas ${b.replicasBefore} -> ${b.replicasAfter}, leaders ${b.leadersBefore} -> ${b.leadersAfter}, ${humanBytes(b.bytesBefore)} -> ${humanBytes(b.bytesAfter)}`,
    ),
  ];
}

function moveLine({ kind, table, pid, from, to, bytes, reason }: MoveRow): string {
  const way = [from, to].filter((node) => node !== null).map((node) => `n${node}`);
  return `${kind} ${table} ${pid}: ${way.join(' -> ')}, ${humanBytes(bytes)} (${reason})`;
}
