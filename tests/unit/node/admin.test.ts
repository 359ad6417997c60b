import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { tideError } from '../../../src/core/errors.ts';
import { Conductor } from '../../../src/node/admin.ts';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';
import type { MetaMover } from '../../../src/node/meta-mover.ts';

const STATUS = { do: 'node-status' };
const START = { node: 2, clusterId: 'c', address: 'h2:1', start: { id: 's2', after: null, ended: [] } };

/** What was done, in order. */
let done: unknown[];
let manager: Partial<ManagerHandle> | null;
let isShared: boolean;
let elsewhere: Server;
let conductor: Conductor;

beforeEach(async () => {
  done = [];
  manager = { run: async ({ do: what }) => done.push(`run ${what}`) && 'here' };
  isShared = false;
  elsewhere = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      done.push([request.url, JSON.parse(body), request.headers['x-pgtide-forwarded']]);
      response.end('{"result":"there"}');
    });
  }).listen(0, '127.0.0.1');
  await once(elsewhere, 'listening');
  const mover: Partial<MetaMover> = {
    handOver: async (node) => {
      done.push(`hand over to ${node}`);
      manager = null;
      return { node, address: 'h' };
    },
    migrate: async (meta) => ({ meta }),
    activate: async (from) => void done.push(`activate what came from ${from}`),
  };
  conductor = new Conductor({
    manager: () => manager as ManagerHandle | null,
    withManager: (send) => send(`127.0.0.1:${(elsewhere.address() as AddressInfo).port}`),
    isShared: () => isShared,
    clusterId: () => 'c',
    mover: mover as MetaMover,
    onStart: ({ node }) => void done.push(`node ${node} starts`),
  });
});
afterEach(() => {
  elsewhere.closeAllConnections();
  elsewhere.close();
});

const ask = (body: object, forwarded = false) => conductor.admin({ body, forwarded });

test('a command is for the manager, here or where it is; passed on it is as it has come', async () => {
  expect(await ask(STATUS)).toBe('here');
  manager = null;
  const newer = { ...STATUS, told: 'by a newer program' };
  expect(await ask(newer)).toBe('there');
  expect(done).toEqual(['run node-status', ['/api/v1/admin', newer, '1']]);
});

test('what moves the meta store is not for the manager', async () => {
  expect(await ask({ do: 'meta-migrate', to: 'etcd://e/x' })).toEqual({ meta: 'etcd://e/x' });
  expect(await ask({ do: 'meta-move', node: 3 })).toEqual({ node: 3, address: 'h' });
  expect(done).toEqual(['hand over to 3']);
});

test('the home of the meta store that is to go hands it over, and its successor carries the command out', async () => {
  manager = {
    run: async () => {
      throw tideError('META_HOME', { node: 1, successor: 2 });
    },
  };
  const command = { do: 'node-decommission', nodes: [1] };
  expect(await ask(command)).toBe('there');
  expect(done).toEqual(['hand over to 2', ['/api/v1/admin', command, '1']]);
});

test('what a node has passed on is not passed on again where the manager is found in a shared store', async () => {
  manager = null;
  isShared = true;
  await expect(ask(STATUS, true)).rejects.toMatchObject({ code: 'NO_MANAGER_ELECTED' });
  isShared = false;
  expect(await ask(STATUS, true)).toBe('there');
  const start = conductor.start({ body: START, forwarded: true });
  await expect(start).rejects.toMatchObject({ code: 'NO_MANAGER', details: { manager: 'h2:1' } });
});

test('a start is heard of by every node that it comes to', async () => {
  manager = { admit: async ({ node }) => void done.push(`admit ${node}`) };
  expect(await conductor.start({ body: START, forwarded: false })).toBeNull();
  manager = null;
  await conductor.start({ body: START, forwarded: false });
  expect(done).toEqual(['node 2 starts', 'admit 2', 'node 2 starts', ['/api/v1/start', START, '1']]);
});

test('a beat says that the meta store which its node has given is to be run, and is then answered here', async () => {
  const facts = { api: 2, address: 'h:1', httpAddress: 'h:2', postgresHost: 'h', postgresPort: 3 };
  const of = { ...facts, locality: [], attrs: [], build: '0', startedAt: '', startMode: 'start' };
  const said = { postgresUp: true, fenced: false, leased: false, diskTotalBytes: 1, diskFreeBytes: 1 };
  const body = { node: 4, clusterId: 'c', ...said, facts: of };
  manager = null;
  const activated = { beat: async () => ({ state: 'active' }) } as unknown as ManagerHandle;
  const asked = conductor.beat({ body, forwarded: false });
  manager = activated;
  expect(await asked).toEqual({ state: 'active' });
  expect(done).toEqual(['activate what came from 4']);
  await expect(conductor.beat({ body: { facts: { api: 9 } }, forwarded: false })).rejects.toMatchObject({
    code: 'NODE_INCOMPATIBLE',
  });
});
