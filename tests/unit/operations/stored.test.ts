import { expect, test } from 'vitest';
import { fromStored, toStored } from '../../../src/operations/stored.ts';
import { operationRecord } from '../../fakes/records.ts';

const data = { source: 1, bytesPlanned: 7 };

test.each([null, 'swing'])('a record is read as it was written: began %s', (began) => {
  const record = operationRecord({ began, data });
  expect(fromStored(JSON.parse(JSON.stringify(toStored(record))))).toEqual(record);
});

test('the step that has begun is stored where 0.1.0 looks for it, and nothing else is there before', () => {
  expect(toStored(operationRecord({ began: 'swing', data }))).toEqual({
    ...JSON.parse(JSON.stringify(operationRecord({ data }), (key, value) => (key === 'began' ? undefined : value))),
    data: { ...data, began: 'swing' },
  });
  expect(toStored(operationRecord({ data })).data).toEqual(data);
});
