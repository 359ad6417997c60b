import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { BeatAnswer } from '../../../src/api/membership.ts';
import { tideError } from '../../../src/core/errors.ts';
import { Identity } from '../../../src/node/identity.ts';
import { Management, type ManagementPorts } from '../../../src/node/management.ts';
import type { ManagerHandle, SharedPorts } from '../../../src/node/manager-handle.ts';
import type { OwnStart } from '../../../src/node/own-start.ts';
import { type NodeIdentity, prepareStore } from '../../../src/node/store-dir.ts';
import { TopologyFeed } from '../../../src/node/topology-feed.ts';

const MEMBER: NodeIdentity = {
  formatVersion: 1,
  nodeId: 2,
  clusterId: 'c',
  startMode: 'start',
  state: 'member',
  listenAddress: 'h2:1',
  advertiseAddress: 'h2:1',
  httpAddress: 'h2:2',
  postgresPort: 3,
  metaHome: false,
  meta: null,
  manager: 'h1:1',
  metaFrom: null,
  peers: [],
};
const ANSWER: BeatAnswer = {
  state: 'active',
  upToDate: true,
  fence: 'down',
  manager: 'h3:1',
  peers: ['h1:1', 'h3:1'],
  meta: null,
  leaseSeconds: 10,
};

let dir: string;
let identity: Identity;
let joined: unknown[];
let stopped: number;
let hasMembers: boolean;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgtide-management-'));
  joined = [];
  stopped = 0;
  hasMembers = true;
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function managementOf(change: Partial<NodeIdentity> = {}): Promise<Management> {
  const store = await prepareStore(dir);
  identity = new Identity(store);
  await identity.begin({ ...MEMBER, ...change });
  const handle: Partial<ManagerHandle> = {
    followTopology: () => {},
    hasMembers: () => hasMembers,
    join: async (facts) => {
      joined.push(facts);
      return {} as never;
    },
    stop: async () => {
      stopped += 1;
    },
  };
  const ports: Partial<ManagementPorts> = {
    startManager: async () => handle as ManagerHandle,
    shared: {} as SharedPorts,
    store,
    identity,
    topology: new TopologyFeed(),
    ownStart: () => ({ starts: { claim: {} }, hear: async () => {} }) as unknown as OwnStart,
    facts: (postgresPort) => ({ postgresPort }) as never,
    log: () => {},
  };
  return new Management(ports as ManagementPorts);
}

test('the home of the embedded meta store manages, and is the first member of a cluster that begins', async () => {
  hasMembers = false;
  const management = await managementOf({ metaHome: true });
  expect([management.here, management.isSettled]).toEqual([null, true]);
  await management.begin(null);
  expect(management.here).not.toBeNull();
  expect(management.isSettled).toBe(false);
  expect(joined).toEqual([{ postgresPort: 3 }]);
  await management.end();
  expect(stopped).toBe(1);
});

test('any other node sends to the manager, and says so where it does not answer', async () => {
  const management = await managementOf();
  await management.begin(null);
  expect([management.here, management.requireAddress()]).toEqual([null, 'h1:1']);
  expect(await management.withManager(async (address) => address)).toBe('h1:1');
  const refused = management.withManager(async () => {
    throw tideError('NODE_UNKNOWN', { node: '7', known: '1, 2' });
  });
  await expect(refused).rejects.toMatchObject({ code: 'NODE_UNKNOWN' });
  const silent = management.withManager(async (address) => {
    throw tideError('UNREACHABLE', { address, why: 'timeout' });
  });
  await expect(silent).rejects.toMatchObject({ code: 'NO_MANAGER', details: { manager: 'h1:1' } });
});

test.each([{ metaHome: true }, { manager: 'h2:1' }])(
  'a node does not ask itself for the manager: %o',
  async (known) => {
    const management = await managementOf(known);
    const asked = management.withManager(async () => 'sent');
    await expect(asked).rejects.toMatchObject({ code: 'NO_MANAGER', details: { manager: 'this node' } });
  },
);

test('what the manager says is noted, and a node that has left for good is so from then on', async () => {
  const management = await managementOf();
  management.hear({ ...ANSWER, storeFormat: 2 });
  await vi.waitFor(() => expect(identity.required).toMatchObject({ formatVersion: 2, state: 'member' }));
  expect(identity.required).toMatchObject({ manager: 'h3:1', peers: ['h1:1', 'h3:1'] });
  management.hear({ ...ANSWER, state: 'decommissioned' });
  await vi.waitFor(() => expect(identity.required.state).toBe('decommissioned'));
});

test('a node that holds a meta store, or waits for the word to run one, believes nobody about who manages', async () => {
  const home = await managementOf({ metaHome: true });
  await home.begin(null);
  home.hear(ANSWER);
  await vi.waitFor(() => expect(identity.required.peers).toHaveLength(2));
  expect(identity.required.manager).toBe('h1:1');
  await home.end();
  const heir = await managementOf({ metaFrom: 1 });
  heir.hear(ANSWER);
  await vi.waitFor(() => expect(identity.required.peers).toHaveLength(2));
  expect(identity.required.manager).toBe('h1:1');
});
