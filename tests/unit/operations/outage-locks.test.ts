import { expect, test } from 'vitest';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { must } from '../../../src/core/assert.ts';
import { obstacleTo } from '../../../src/operations/admission.ts';
import type { OperationRecord } from '../../../src/operations/operation.ts';
import { OPERATION_KINDS } from '../../../src/operations/registry.ts';
import { operationRecord } from '../../fakes/records.ts';

const OF_AN_OUTAGE = ['failover', 'recover-node', 'give-up-node', 'drop-node'];
const kindOf = ({ kind }: OperationRecord) => must(OPERATION_KINDS.get(kind), kind);
const PAIRS = OF_AN_OUTAGE.flatMap((first) => OF_AN_OUTAGE.map((second) => [first, second] as const));

test.each(PAIRS)(
  'while there is a %s of a node, a %s of it has to wait, and one of another node has not',
  (first, second) => {
    const older = operationRecord({ id: 1, kind: first, input: { node: 3 }, status: 'running' });
    const of = (node: number) => operationRecord({ id: 2, kind: second, input: { node }, status: 'queued' });
    const settings = { settings: defaultSettings() };
    expect(obstacleTo(of(3), [older, of(3)], kindOf, settings)?.text).toMatch(/^operation 1 \(.*\) goes first$/);
    expect(obstacleTo(of(4), [older, of(4)], kindOf, settings)).toBeNull();
  },
);
