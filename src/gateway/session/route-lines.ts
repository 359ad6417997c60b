import type { NotRouted } from '../../sql/point.ts';
import type { Route } from '../router.ts';
import { literalKey } from './elsewhere.ts';

/** What EXPLAIN (ROUTE) says of a statement. */
export function routeLines(found: Route | NotRouted): string[] {
  if ('because' in found) return ['Route: home, rows of other nodes by postgres_fdw', `  Reason: ${found.because}`];
  const key = literalKey(found.point);
  const place = key && found.place(key);
  return [
    'Route: the leader of one partition, when it is prepared and no transaction is open',
    `  ${found.point.kind === 'read' ? 'Reads' : 'Writes'} ${placeOf(found, place)}`,
    `  Statement: ${found.at(place?.pid ?? 0).statement.text}`,
  ];
}

function placeOf({ point: { key } }: Route, place: ReturnType<Route['place']>): string {
  if (place !== null) return `partition ${place.pid}, which node ${place.node} leads`;
  return 'parameter' in key
    ? `the partition of $${key.parameter}; below it is 0`
    : 'a partition that has no leader now';
}
