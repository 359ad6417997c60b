import { beforeEach, expect, test } from 'vitest';
import { ClusterLoad } from '../../../src/manager/cluster-load.ts';
import type { CommandContext } from '../../../src/manager/commands/context.ts';
import { listManagers } from '../../../src/manager/commands/nodes.ts';
import type { Measurements } from '../../../src/manager/measurements.ts';
import { META_FORMAT, ROLES_FORMAT } from '../../../src/store/meta-store.ts';
import { World } from '../../fakes/world.ts';
import { HEALTHY } from './support/beats.ts';

/** Nodes that hold a lease of the shared meta store. */
const LEASED = [1, 2, 3];

let world: World;
let load: ClusterLoad;

beforeEach(async () => {
  world = await World.settled([1, 2, 3, 4]);
  load = new ClusterLoad(world.clock, {} as Measurements, () => false);
});

function beats(node: number, metaFormat = META_FORMAT): void {
  load.beat({ ...HEALTHY, node, metaFormat });
}

async function roles(): Promise<string[]> {
  const shared = {
    url: 'etcd://a',
    term: 7,
    leftMs: () => 1_000,
    leaseOf: async () => 'held',
    leased: async () => LEASED,
  };
  const { managers } = await listManagers({ view: world.view, load, home: 1, shared } as unknown as CommandContext);
  return managers.map(({ node, role, term }) => `${node} ${role}${term === null ? '' : ` ${term}`}`);
}

test('whoever is alive and reaches the meta store could take over', async () => {
  for (const node of [1, 2, 4]) beats(node);
  expect(await roles()).toEqual(['1 leader 7', '2 standby']);
});

test('one with an older program could not: it would find the store too new', async () => {
  beats(1);
  beats(2, ROLES_FORMAT - 1);
  beats(3, META_FORMAT + 1);
  expect(await roles()).toEqual(['1 leader 7', '2 standby', '3 standby']);
  await world.catalog.separateRoles();
  expect(await roles()).toEqual(['1 leader 7', '3 standby']);
});
