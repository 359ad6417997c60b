import { expect, test } from 'vitest';
import { listOf, type TideError, tideError } from '../../../src/core/errors.ts';
import { throwAll } from '../../../src/manager/commands/context.ts';

function refusalOf(...errors: TideError[]): TideError {
  try {
    throwAll(errors);
  } catch (error) {
    return error as TideError;
  }
  throw new Error('nothing was refused');
}

const missing = (pid: number) => tideError('REPLICA_MISSING', { partition: `acct ${pid}`, node: 1, holders: 'node 2' });
const dead = () => tideError('NODE_NOT_ALIVE', { nodes: 'node 4 is' });
const alone = (count: number) => {
  const partitions = Array.from({ length: count }, (_, pid) => `acct ${pid} (node 2)`);
  return tideError('PARTITION_UNAVAILABLE', { partitions });
};

test('nothing against it is no refusal', () => {
  expect(() => throwAll([])).not.toThrow();
});

test('one reason is its own error', () => {
  const reason = missing(3);
  expect(refusalOf(reason)).toBe(reason);
});

test('a few reasons are said in one sentence, and each is whole in the details', () => {
  const refusal = refusalOf(missing(3), dead());
  expect(refusal.code).toBe('REPLICA_MISSING');
  expect(refusal.message).toBe(
    'node 1 holds no replica of acct 3 (held by node 2); node 4 is not alive: no heartbeat, or PostgreSQL does not answer (NODE_NOT_ALIVE)',
  );
  expect(refusal.details).toEqual({ ...missing(3).details, reasons: [dead().toBody()] });
  expect(listOf(refusal)).toEqual([]);
});

test('what is said of many partitions alike is said once', () => {
  expect(refusalOf(dead(), dead(), dead()).message).toBe(dead().message);
});

test('many reasons are counted, and listed one by one', () => {
  const refusal = refusalOf(...Array.from({ length: 4_096 }, (_, pid) => missing(pid)));
  expect(refusal.message.length).toBeLessThan(300);
  expect(refusal.message).toContain('and 4093 more reasons');
  expect(refusal.hint).toBe(missing(0).hint);
  expect(refusal.details.reasons).toHaveLength(4_095);
  expect(listOf(refusal)).toHaveLength(4_093);
  expect(listOf(refusal)[0]).toBe('node 1 holds no replica of acct 3 (held by node 2) (REPLICA_MISSING)');
});

test('a reason that names many has them listed, too', () => {
  const refusal = refusalOf(dead(), alone(40));
  expect(refusal.message).toContain('no live leader: 40 partitions (acct 0 (node 2), ');
  expect(listOf(refusal)).toEqual(alone(40).details.partitions);
});
