import { expect, test } from 'vitest';
import { API_VERSION, beatReport, requireCompatible } from '../../../src/api/membership.ts';

const facts = {
  api: API_VERSION,
  address: 'db1:26257',
  httpAddress: 'db1:8080',
  postgresHost: 'db1',
  postgresPort: 27257,
  locality: [],
  attrs: [],
  build: '0.1.0',
  startedAt: '2026-01-01T00:00:00.000Z',
  startMode: 'start',
  storeFormat: 1,
};
const beat = {
  node: 1,
  clusterId: 'c',
  postgresUp: true,
  fenced: false,
  leased: true,
  metaFormat: 2,
  diskTotalBytes: 1,
  diskFreeBytes: 1,
  facts,
};

test('a node of this version is understood, and one that says more than is known here', () => {
  requireCompatible(facts);
  requireCompatible(beat);
  const said = { ...beat, mood: 'good', facts: { ...facts, colour: 'red' } };
  requireCompatible(said);
  const absent = { sessions: null, answeredMs: null, applyErrors: [], start: null, managedBy: null };
  expect(beatReport.parse(said)).toEqual({ ...beat, ...absent });
});

test.each([
  [
    'the first version, which did not tell',
    { node: 1, facts: { build: '0.0.9' } },
    1,
    'start this node with the pgtide',
  ],
  [
    'a newer one that joins',
    { ...facts, api: API_VERSION + 1 },
    API_VERSION + 1,
    'upgrade the node that runs the manager first',
  ],
  [
    'a newer one that beats',
    { ...beat, facts: { ...facts, api: API_VERSION + 1 } },
    API_VERSION + 1,
    'upgrade the node that runs',
  ],
])('%s is refused, with what to do', (_name, message, api, hint) => {
  expect(() => requireCompatible(message)).toThrow(
    expect.objectContaining({
      code: 'NODE_INCOMPATIBLE',
      details: expect.objectContaining({ api }),
      hint: expect.stringContaining(hint),
    }),
  );
});
