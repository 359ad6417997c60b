import { counted, few, NAMED_MAX } from '../lists.ts';
import { describeLocalData, type LocalData } from '../local-data.ts';
import { humanBytes } from '../units.ts';
import { entry } from './entry.ts';

/** Refusals of the preflight and of the cluster's own rules. */
export const clusterErrors = {
  NODE_UNKNOWN: entry<{ node: string; known: string }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `node ${d.node} does not exist (this cluster has ${d.known})`,
    hint: () => 'tide node status lists the nodes',
  }),
  NODE_ALREADY_DECOMMISSIONING: entry<{ node: number; state: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `node ${d.node} is already ${d.state}`,
    hint: (d) =>
      d.state === 'decommissioned'
        ? 'nothing is left to do: stop its process, or clear its store and let it join as a new node'
        : 'tide op ls shows how far it is; tide node recommission cancels it',
  }),
  NODE_NOT_ALIVE: entry<{ nodes: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '57P03',
    text: (d) => `${d.nodes} not alive: no heartbeat, or PostgreSQL does not answer`,
    hint: () => 'start what is down (tide start with its old store) and repeat the command',
  }),
  NODE_LIVE: entry<{ node: number; what: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `node ${d.node} is alive and cannot be ${d.what}`,
    hint: (d) => `tide node decommission ${d.node} takes a living node away, tide node drain ${d.node} its leaders`,
  }),
  NODE_NOT_OFFLINE: entry<{ node: number; what: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `node ${d.node} is not offline and cannot be ${d.what}`,
    hint: (d) => `if it is down or cut off for good, say so first: tide node offline ${d.node}`,
  }),
  NODE_JUST_SEEN: entry<{ node: number; seconds: number }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `node ${d.node} was heard ${d.seconds} s ago, and dropping it is for good`,
    hint: (d) => `start it again if it can come back; if it never will: tide node drop ${d.node} --yes`,
  }),
  DRAIN_UNCOVERED: entry<{ node: number; partitions: readonly string[]; why: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) =>
      `while node ${d.node} is away these partitions would have nobody to lead them, or a leader without a follower: ${counted(d.partitions, 'partitions')}; ${d.why}`,
    list: 'partitions',
    hint: (d) =>
      `start another node, or one that is down; or accept it for the time: tide node drain ${d.node} --allow-single-replica`,
  }),
  /** `accept`: all of them, as --accept-data-loss takes them. */
  LAST_COPY: entry<{ node: number; partitions: readonly string[]; accept: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `node ${d.node} holds the last copy of ${counted(d.partitions, 'partitions')}`,
    hint: (d) =>
      d.partitions.length <= NAMED_MAX
        ? `start the node again; or give these rows up: --accept-data-loss=${d.accept}`
        : 'start the node again; or give these rows up: --accept-data-loss=TABLE/PID,… with every one of them (--format=json: details.accept)',
    list: 'partitions',
  }),
  /** `found`: the largest, `count`, `rows` and `bytes`: of all. */
  LOCAL_TABLES: entry<{ node: number; count: number; rows: number; bytes: number; found: readonly LocalData[] }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) =>
      `node ${d.node} holds ordinary tables or other data that no other node has, and would take it along ` +
      `(${d.count} in all, ${humanBytes(d.bytes)}): ${describeLocalData(d.found, NAMED_MAX, d.count)}`,
    list: 'found',
    hint: () =>
      'copy it elsewhere and drop it there, or give it up: --abandon-local-tables; tide table create makes tables that stay in the cluster',
  }),
  NODE_NOT_ELIGIBLE: entry<{ node: number; state: string; what: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `node ${d.node} is ${d.state} and cannot ${d.what}`,
    hint: () => 'choose a node that tide node status shows as active and not draining',
  }),
  PARTITION_UNKNOWN: entry<{ table: string; pid: number; count: number }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `table ${d.table} has no partition ${d.pid} (it has 0 to ${d.count - 1})`,
    hint: () => 'tide partition ls lists the partitions',
  }),
  PARTITION_UNAVAILABLE: entry<{ partitions: readonly string[] }>({
    retry: 'when-cluster-changes',
    sqlstate: '57P03',
    text: (d) => `no live leader: ${counted(d.partitions, 'partitions')}`,
    list: 'partitions',
    hint: () => 'start the nodes that lead these partitions; data can only be copied from a live leader',
  }),
  PARTITION_UNDER_REPLICATED: entry<{ partitions: readonly string[] }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `short of live, complete replicas: ${counted(d.partitions, 'partitions')}`,
    list: 'partitions',
    hint: () => 'wait until running operations have ended and all nodes are up (tide op ls, tide node status)',
  }),
  /** `tables`: those that want so many; none: one that is about to be made. */
  TOO_FEW_NODES_FOR_REPLICAS: entry<{ tables: readonly string[]; replicas: number; nodes: number }>({
    retry: 'when-cluster-changes',
    sqlstate: '53000',
    text: (d) =>
      `${tablesWant(d.tables)} ${d.replicas} replicas, each on a node of its own, and ${d.nodes} ${d.nodes === 1 ? 'node' : 'nodes'} would hold them`,
    list: 'tables',
    hint: () => 'start more nodes first (tide start --join=…), or ask for fewer',
  }),
  BELOW_MIN_NODES: entry<{ left: number; minNodes: number }>({
    retry: 'when-cluster-changes',
    sqlstate: '53000',
    text: (d) => `${d.left} active nodes would be left, and the setting min_nodes wants ${d.minNodes}`,
    hint: () => 'start more nodes first, lower the setting (tide settings set min_nodes N), or use --checks=skip',
  }),
  SCALE_IN_RUNNING: entry<{ nodes: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `another scale-in is under way: ${d.nodes}`,
    hint: () => 'wait until it has ended (tide op ls), or use --checks=enabled to let both run',
  }),
  NO_DISK_ROOM: entry<{
    partitions: readonly string[];
    bytesNeeded: number;
    bytesThere: number;
    nodes: string;
    marginPercent: number;
  }>({
    retry: 'when-cluster-changes',
    sqlstate: '53100',
    text: (d) =>
      `${counted(d.partitions, 'partitions')}: ${size(d.bytesNeeded)} needed, ${size(d.bytesThere)} there on ${d.nodes} above the margin of ${d.marginPercent} %`,
    list: 'partitions',
    hint: () => 'free or add disk space, or start another node; the margin is the setting disk.margin',
  }),
  NO_TARGET: entry<{ replicas: readonly string[] }>({
    retry: 'when-cluster-changes',
    sqlstate: '53000',
    text: (d) =>
      `${d.replicas.length} ${d.replicas.length === 1 ? 'replica has' : 'replicas have'} nowhere to go: ${few(d.replicas)}`,
    list: 'replicas',
    hint: () => 'start another node, or make the named nodes able to take replicas; nothing has been changed',
  }),
  LOCALITY_WORSE: entry<{ partitions: readonly string[] }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `replicas would share a locality that they do not share now: ${counted(d.partitions, 'partitions')}`,
    list: 'partitions',
    hint: () => 'start a node in the locality that would be lost, or use --checks=enabled to accept it',
  }),
  REPLICA_EXISTS: entry<{ partition: string; node: number }>({
    retry: 'never',
    sqlstate: '42710',
    text: (d) => `node ${d.node} already holds a replica of ${d.partition}`,
    hint: () => 'choose a node that holds none (tide partition ls)',
  }),
  REPLICA_MISSING: entry<{ partition: string; node: number; holders: string }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `node ${d.node} holds no replica of ${d.partition} (held by ${d.holders})`,
    hint: () => 'tide partition ls shows which nodes hold it',
  }),
  BELOW_REPLICA_COUNT: entry<{ partition: string; left: number; wanted: number }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `${d.partition} would have ${d.left} of the ${d.wanted} replicas that its table wants`,
    hint: () => 'add a replica on another node first, or migrate this one',
  }),
  LEADER_NOT_REMOVABLE: entry<{ partition: string; node: number; fate: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `node ${d.node} leads ${d.partition}: its replica cannot be ${d.fate}`,
    hint: () => 'change the leader first (tide partition change-leader)',
  }),
  NOT_A_FOLLOWER: entry<{ partition: string; node: number; why: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `node ${d.node} cannot become the leader of ${d.partition}: ${d.why}`,
    hint: () => 'choose a node whose replica is a follower in state ready (tide partition ls)',
  }),
  PARTITION_LED: entry<{ partition: string; leader: number }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `${d.partition} is led by node ${d.leader}, which is not out of service`,
    hint: (d) =>
      `tide partition change-leader chooses another; if node ${d.leader} is down for good, say so first: tide node offline ${d.leader}`,
  }),
  PARTITION_NOT_LED: entry<{ partition: string; leader: number }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) =>
      `nobody leads ${d.partition} yet in place of node ${d.leader}: the chosen node went meanwhile, or an operation that needs node ${d.leader} has not ended`,
    hint: () => 'see what is under way (tide op ls) and who is alive (tide node status --all), then repeat the command',
  }),
  WRITES_AT_RISK: entry<{ partitions: readonly string[]; leader: number; way: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) =>
      `${counted(d.partitions, 'partitions')}: node ${d.leader} may have acknowledged writes that no other live node has`,
    list: 'partitions',
    hint: (d) => `start node ${d.leader} again, or the followers that are down; or give such writes up: ${d.way}`,
  }),
  META_HOME: entry<{ node: number; successor: number }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `node ${d.node} holds the embedded meta store, without which the cluster cannot be managed`,
    hint: (d) => `move the store first: tide meta move ${d.successor}`,
  }),
  NODE_DECOMMISSIONED: entry<{ node: number }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `node ${d.node} is decommissioned for good`,
    hint: () => 'stop it (tide quit), clear its store and start it with --join: it gets a new id',
  }),
  NODE_NOT_DECOMMISSIONING: entry<{ node: number; state: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `node ${d.node} is not being decommissioned: it is ${d.state}`,
    hint: () => 'tide node status --decommission shows which nodes are',
  }),
  NODE_NOT_ACTIVE: entry<{ node: number; state: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `node ${d.node} is ${d.state}, not active`,
    hint: () => 'tide node status shows the states',
  }),
  CLUSTER_MISMATCH: entry<{ caller: string; cluster: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `the call comes from a node of cluster ${d.caller}, and this is a node of cluster ${d.cluster}`,
    hint: () =>
      'an address that a node of the one cluster had, or was told, is now used by the other: start that node again with --join=HOST:PORT of a live node of its own cluster',
  }),
  CLUSTER_MODE_MISMATCH: entry<{ cluster: string; node: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `the cluster was started with ${d.cluster}, and this node with ${d.node}`,
    hint: (d) => (d.cluster === 'start' ? 'leave --single-replica out' : 'start the node with --single-replica'),
  }),
  ADDRESS_TAKEN: entry<{ address: string; node: number }>({
    retry: 'never',
    sqlstate: '42710',
    text: (d) => `the address ${d.address} belongs to node ${d.node} of the cluster`,
    hint: () => 'give the new node another --advertise-addr, or decommission the old one first',
  }),
};

/** `table acct wants`, `36 tables (acct, … and 31 more) want` */
function tablesWant(tables: readonly string[]): string {
  if (tables.length === 0) return 'the new table wants';
  if (tables.length === 1) return `table ${tables[0]} wants`;
  return `${tables.length <= NAMED_MAX ? `tables ${tables.join(', ')}` : counted(tables, 'tables')} want`;
}

/** `1.5 GB`, in powers of 1000 as disks are sold. */
function size(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.floor(value) : value.toFixed(1)} ${units[unit]}`;
}
