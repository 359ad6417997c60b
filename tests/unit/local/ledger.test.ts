import { describe, expect, test } from 'vitest';
import { Ledger } from '../../../src/local/ledger.ts';

const found = (...rows: [key: number, value: string, writes: number][]) =>
  new Map(rows.map(([key, value, writes]) => [key, { value, writes }]));

describe('the ledger of acknowledged writes', () => {
  const ledger = new Ledger();
  ledger.acknowledge(1, 'a');
  ledger.acknowledge(1, 'b');
  ledger.acknowledge(2, 'c');
  ledger.doubt(2, 'd');
  ledger.doubt(3, 'never acknowledged');

  test('counts writes, not keys', () => {
    expect([ledger.acknowledged, ledger.keys]).toEqual([3, 2]);
  });

  test('finds nothing lost where everything stands, whatever became of writes in doubt', () => {
    expect(ledger.lost(found([1, 'b', 2], [2, 'c', 1]))).toEqual(new Map());
    expect(ledger.lost(found([1, 'b', 2], [2, 'd', 2], [3, 'never acknowledged', 1]))).toEqual(new Map());
  });

  test('finds a missing row, an older value, and an update lost in the middle', () => {
    expect(ledger.lost(found([2, 'c', 1]))).toEqual(new Map([[1, 2]]));
    expect(ledger.lost(found([1, 'a', 1], [2, 'c', 1]))).toEqual(new Map([[1, 1]]));
    expect(ledger.lost(found([1, 'b', 1], [2, 'c', 1]))).toEqual(new Map([[1, 1]]));
    expect(ledger.lost(found([1, 'b', 2], [2, 'd', 1]))).toEqual(new Map([[2, 1]]));
  });
});
