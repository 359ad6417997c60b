import type { PointStatement } from '../../sql/point.ts';
import type { Route } from '../router.ts';
import { parameterOf, type Slice } from '../wire/extended.ts';
import { errorFields, errorResponse } from '../wire/messages.ts';
import type { Unit } from './unit.ts';

type KeyBytes = { bytes: Buffer } & Slice;

/** The key's value where the statement says it; null: a parameter does. */
export function literalKey({ key }: PointStatement): KeyBytes | null {
  if (!('literal' in key)) return null;
  const bytes = Buffer.from(key.literal);
  return { bytes, start: 0, end: bytes.length, isBinary: false };
}

/** Where the value of the key is. Null: it is not there. */
export function keyIn({ point }: Route, { bind, bound }: Unit): KeyBytes | null {
  if (!('parameter' in point.key)) return literalKey(point);
  const slice = parameterOf(bind, bound, point.key.parameter - 1);
  return slice && { bytes: bind, ...slice };
}

/** The error with the position as it is in the client's own text. */
export function inClientsText(message: Buffer, { point }: Route, hinge: string): Buffer {
  const fields = errorFields(message);
  if (fields.P === undefined) return message;
  return errorResponse({ ...fields, P: String(point.positionInOriginal(Number(fields.P), hinge)) });
}

/** The error that says what has become of a statement whose leader was lost. */
export function lostOn(node: number, { point }: Route, why: string): Buffer {
  const outcome =
    point.kind === 'write'
      ? 'whether the statement has taken effect is not known'
      : 'the answer is not whole, and changed nothing';
  return errorResponse({
    S: 'ERROR',
    V: 'ERROR',
    C: '08006',
    M: `the connection to node ${node}, which leads the row, was lost: ${outcome}`,
    D: why,
    H: point.kind === 'write' ? 'look whether the row is as it should be before you repeat it' : 'repeat it',
  });
}
