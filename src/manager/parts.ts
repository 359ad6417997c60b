import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, NodeId } from '../catalog/model.ts';
import { isOut } from '../catalog/view.ts';
import type { Journal } from '../operations/journal.ts';
import { partitionLock } from '../operations/operation.ts';
import { OPERATION_KINDS } from '../operations/registry.ts';
import { Runner } from '../operations/runner.ts';
import { Admissions } from './admissions.ts';
import { ApplyKeeper } from './apply-keeper.ts';
import { Balancer } from './balancer.ts';
import type { CatalogStore } from './catalog-store.ts';
import { ClusterLoad } from './cluster-load.ts';
import { DeadlockWatch } from './deadlocks.ts';
import type { EndingStore } from './ending-store.ts';
import type { EventLog } from './event-log.ts';
import { History } from './history.ts';
import { nodeById } from './lookups.ts';
import type { ManagerPorts } from './manager-ports.ts';
import { Measurements } from './measurements.ts';
import { Membership } from './membership.ts';
import { OutageWatch } from './outage-watch.ts';
import { Promotions } from './promotions.ts';
import { Reconciler } from './reconcile.ts';
import { RoleKeeper } from './role-keeper.ts';
import { StoreWatch } from './store-watch.ts';
import { StreamKeeper } from './stream-keeper.ts';
import { WalKeeper } from './wal-keeper.ts';

/** What a manager begins with: it has opened the store. */
export interface Opened {
  readonly home: NodeId;
  readonly ports: ManagerPorts & { store: EndingStore };
  readonly catalog: CatalogStore;
  readonly events: EventLog;
  readonly journal: Journal;
}

/** What a manager is made of. */
export type Parts = ReturnType<typeof partsOf>;

/** Makes them and tells them of each other. Nothing is at work yet. */
export function partsOf({ home, ports, catalog, events, journal }: Opened) {
  const { clock, log, shared, start, whoIs, overtaken } = ports;
  const view = () => catalog.view;
  const alive = (node: NodeId) => load.alive(node);
  const addressOf = (node: NodeId) => postgresOf(view(), node);
  const servers = ports.servers({ addressOf, reachable: (node) => load.reachable(node) });
  const { plane, inspector } = servers;
  const measurements = new Measurements({ clock, inspector, log });
  const load: ClusterLoad = new ClusterLoad(
    clock,
    measurements,
    (node) => isOut(view(), node),
    () => applyKeeper.heldBack(),
  );
  const loadView = () => load.view(view());
  const event = (entry: Parameters<EventLog['add']>[0]) => events.add(entry);
  const commit = (changes: readonly CatalogChange[]) => catalog.commit(changes);
  const common = { plane, inspector, view, alive, commit, log, clock, event };
  const runner = new Runner(journal, OPERATION_KINDS, {
    ...common,
    random: ports.random,
    load: loadView,
    broken: ports.broken,
    copyFailure: (from, to, ref) => applyKeeper.copyFailure(from, to, ref),
  });
  const leaseOf = async (node: NodeId) => shared?.leaseOf(node) ?? 'none';
  const outageWatch = new OutageWatch({ ...common, runner, load, leaseOf });
  const admissions = new Admissions({
    ...common,
    load,
    leaseOf,
    condition: (node) => outageWatch.condition(node),
    whoIs,
    own: shared === null ? { node: home, start } : null,
    overtaken,
  });
  // Who gives replicas up.
  const giving = { ...common, quorums: runner.quorums, promotions: new Promotions({ runner, view }) };
  const isChoosing = (node: NodeId) => runner.unended().some((r) => r.kind === 'failover' && r.input.node === node);
  const holderOf = (tid: number, pid: number) => runner.holderOf(partitionLock(tid, pid));
  const reconciler: Reconciler = new Reconciler({ ...giving, holderOf, isChoosing });
  catalog.onChange((_, changes) => reconciler.hear(changes));
  const reconnect = (node: NodeId) => reconciler.nodeReturned(node);
  const applyKeeper: ApplyKeeper = new ApplyKeeper({ ...giving, isChoosing, reconnect });
  const deadlocks = new DeadlockWatch(common);
  const made = { load, runner, outageWatch, admissions, reconciler, applyKeeper };
  return {
    servers,
    ...made,
    history: new History({ clock, runner, log }),
    balancer: new Balancer(event),
    walKeeper: new WalKeeper({ ...giving, load: loadView, reconnect }),
    streamKeeper: new StreamKeeper({ ...common, reconnect }),
    roleKeeper: new RoleKeeper({
      ...common,
      metaFormat: (node) => load.metaFormat(node),
      separate: () => catalog.separateRoles(),
    }),
    storeWatch: new StoreWatch({ home, store: ports.store, events }),
    membership: new Membership({ home, start, shared, clock, catalog, events, ...made, deadlocks }),
  };
}

function postgresOf(view: ClusterView, node: NodeId): { host: string; port: number } {
  const { postgresHost: host, postgresPort: port } = nodeById(view, node);
  return { host, port };
}
