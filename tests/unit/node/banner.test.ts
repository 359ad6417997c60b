import { expect, it } from 'vitest';
import { renderBanner } from '../../../src/node/banner.ts';

it('prints one fact a line', () => {
  const text = renderBanner({
    startedAt: '2026-01-02T03:04:05.000Z',
    tookMs: 1234,
    version: '0.1.0',
    postgresVersion: '18.4',
    advertiseAddress: 'db1:26257',
    httpAddress: 'db1:8080',
    postgresAddress: 'db1:27257',
    store: '/var/lib/pgtide',
    logs: '/var/lib/pgtide/logs',
    locality: '',
    status: 'initialized new node, joined pre-existing cluster',
    clusterId: 'c1',
    nodeId: 4,
  });
  expect(text).toBe(`pgtide node starting at 2026-01-02T03:04:05.000Z (took 1.2s)
build:     pgtide 0.1.0, PostgreSQL 18.4
sql:       postgresql://tide@db1:26257/tide
connect:   psql 'postgresql://tide@db1:26257/tide'
http:      http://db1:8080
postgres:  db1:27257
store:     /var/lib/pgtide
logs:      /var/lib/pgtide/logs
status:    initialized new node, joined pre-existing cluster
clusterID: c1
nodeID:    4`);
});
