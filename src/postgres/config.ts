/** What clients connect as: it owns the database and may make roles, and is no superuser. */
export const TIDE_USER = 'tide';
export const TIDE_DATABASE = 'tide';
/**
 * Superuser of the manager and the node process: the one role that a fenced server lets in over TCP
 * (`fence.ts`).
 */
export const TIDE_MANAGER = 'tide_manager';
/**
 * Owns what a distributed table is made of. Nobody logs in as it; clients have its rights to the tables,
 * within what the guard lets by.
 */
export const TIDE_OWNER = 'tide_owner';
/**
 * What other nodes' `postgres_fdw` sessions are: reads and writes what stands behind hinges, and nothing
 * else.
 */
export const TIDE_PEER = 'tide_peer';
/**
 * What other nodes receive their streams as. It is not the manager: a fenced server lets that one in, and no
 * replication.
 */
export const TIDE_STREAM = 'tide_stream';
/** The superuser that initdb makes, which cannot be taken its rights. Nobody logs in as it. */
export const TIDE_BOOTSTRAP = 'tide_bootstrap';

/** Roles that no client is. */
export const OWN_ROLES: ReadonlySet<string> = new Set([
  TIDE_MANAGER,
  TIDE_OWNER,
  TIDE_PEER,
  TIDE_STREAM,
  TIDE_BOOTSTRAP,
]);

/**
 * Our settings: rewritten at every start, included at the end of `postgresql.conf`, overruled by ALTER
 * SYSTEM.
 */
export const CONFIG_FILE = 'pgtide.conf';

/**
 * Longest socket path that Linux and macOS both take, bytes (`sun_path` is 108 and 104 with its final zero).
 */
const SOCKET_PATH_BYTES_MAX = 103;

export interface PostgresSettings {
  readonly port: number;
  /**
   * Names or addresses under which other nodes reach this PostgreSQL; loopback comes on top. `*` means all
   * interfaces.
   */
  readonly listenHosts: readonly string[];
  /** Directory of the Unix socket; null: none. */
  readonly socketDir: string | null;
  /** Sessions that the listen port lets in at once, default 200. */
  readonly maxClients?: number;
  /**
   * Default 64 MiB: several nodes on one machine have to fit, and PostgreSQL also uses the system's cache.
   */
  readonly sharedBuffersMb?: number;
  /**
   * How much WAL a slot may keep before PostgreSQL gives it up, default 16 GiB (`slotWalKeepBytes` of the
   * disk). The manager cuts receivers before: this is for when it is away.
   */
  readonly slotWalKeepMb?: number;
}

/** Where the Unix socket goes: `dir`, or null where its path would be longer than the system allows. */
export function socketDirFor(dir: string, port: number): string | null {
  return Buffer.byteLength(socketPath(dir, port)) <= SOCKET_PATH_BYTES_MAX ? dir : null;
}

export function socketPath(socketDir: string, port: number): string {
  return `${socketDir}/.s.PGSQL.${port}`;
}

/**
 * The text of `pgtide.conf`: a pure function of the settings, so that "is the running server configured so?"
 * is a comparison.
 */
export function renderConfig(settings: PostgresSettings): string {
  const lines = [
    '# Written by pgtide at every start. Own settings: ALTER SYSTEM SET …, which wins over this file.',
    '',
    ...values('Addresses', {
      listen_addresses: listenAddresses(settings.listenHosts).join(','),
      port: settings.port,
      unix_socket_directories: settings.socketDir === null ? '' : directory(settings.socketDir),
      // Shown by ps, so that the servers of several nodes on one machine can be told apart.
      cluster_name: `tide-${settings.port}`,
      ...connections(settings.maxClients ?? CLIENTS_DEFAULT),
    }),
    ...values('Crashes', {
      // A server whose backend has died would start again by itself, inside its postmaster: for as long as it
      // recovers, or where it has no room to let anybody in, for ever, its port answers and nothing proves
      // that it is down. So it ends, and starts behind its fence.
      restart_after_crash: 'off',
    }),
    ...replication(settings.slotWalKeepMb ?? 16_384),
    ...values(
      'Clients and nodes that vanish without a word: what they hold is let go after 20 s, not after two hours',
      {
        tcp_keepalives_idle: 5,
        tcp_keepalives_interval: 5,
        tcp_keepalives_count: 3,
        tcp_user_timeout: '20s',
        // Also while a statement of theirs runs or waits for a lock.
        client_connection_check_interval: '5s',
      },
    ),
    ...values('Transactions', {
      // Clients may commit in two phases of their own.
      max_prepared_transactions: 200,
      // A full query of a table locks three relations per partition, and their indexes.
      max_locks_per_transaction: 256,
    }),
    ...values('Memory and planner', {
      shared_buffers: `${settings.sharedBuffersMb ?? 64}MB`,
      // Plans over many partitions look expensive and would be compiled for longer than they run.
      jit: 'off',
      // PostgreSQL 18.4 crashes where an UPDATE or DELETE over local and foreign partitions prunes them only
      // when it starts to run, as generic plans do: it mixes up which partition is which (nodeModifyTable.c
      // looks fdwPrivLists up by the pruned index).
      plan_cache_mode: 'force_custom_plan',
    }),
    ...values('The same text for the same value on every node', { timezone: 'UTC' }),
    ...values('Log: stderr, which pgtide directs to the log directory of the store', {
      logging_collector: 'off',
      log_destination: 'stderr',
      log_min_messages: 'warning',
      // The kind of process before what clients choose: `worker-log.ts` believes workers of replication only.
      log_line_prefix: '%m [%p] %b %q%u@%d %a ',
      log_timezone: 'UTC',
      log_checkpoints: 'off',
    }),
  ];
  return `${lines.join('\n')}\n`;
}

/** What the listen port lets in where nobody says otherwise. */
export const CLIENTS_DEFAULT = 200;
/** The manager has up to 12 sessions here, the node process a handful. Only superusers get them. */
const OWN_CONNECTIONS = 40;
/** So many sessions of other nodes find room however many clients there are on this PostgreSQL's own port. */
const PEER_CONNECTIONS = 100;

/**
 * Three tiers, each of which the ones before it cannot fill: clients, other nodes' sessions (one per client
 * there that has touched this node, so that three nodes with all their clients fit), pgtide's own.
 */
function connections(clients: number): Record<string, number> {
  return {
    max_connections: Math.max(400, 3 * clients) + PEER_CONNECTIONS + OWN_CONNECTIONS,
    reserved_connections: PEER_CONNECTIONS,
    superuser_reserved_connections: OWN_CONNECTIONS,
  };
}

function replication(keepMb: number): string[] {
  return values('Replication: every node publishes to, and subscribes from, every node it shares partitions with', {
    wal_level: 'logical',
    max_wal_senders: 64,
    max_replication_slots: 64,
    max_active_replication_origins: 128,
    max_worker_processes: 64,
    // An apply worker per pair of nodes, its parallel workers, and table syncs while replicas are being
    // added.
    max_logical_replication_workers: 48,
    max_sync_workers_per_subscription: 4,
    max_parallel_apply_workers_per_subscription: 2,
    // How soon a worker that failed or was just created starts: part of the time of every add-replica.
    wal_retrieve_retry_interval: '200ms',
    // A frozen node is noticed within half a minute, a busy one is not mistaken for it.
    wal_sender_timeout: '30s',
    wal_receiver_timeout: '30s',
    // Apply workers commit asynchronously; the leader's commit waits until this process has flushed for them.
    // It sleeps 25 times as long while there is nothing to do.
    wal_writer_delay: '2ms',
    // With a limit it flushes by the time since it last did, which a clock that is set back makes last for as
    // long as that, and commits that wait for this server with it.
    wal_writer_flush_after: 0,
    max_slot_wal_keep_size: `${keepMb}MB`,
    // A node that is away is not idle: what it has missed is measured in bytes, not in time.
    idle_replication_slot_timeout: '0',
    // Half of that comes between checkpoints, without any slot.
    max_wal_size: `${Math.max(32, Math.min(1024, Math.floor(keepMb / 2)))}MB`,
  });
}

/**
 * The text of `pg_hba.conf`. This is what `--insecure` means: whoever reaches the port is whoever they say
 * they are. It belongs on trusted networks only.
 */
export function renderHba(): string {
  return [
    '# Written by pgtide: --insecure trusts everybody who can reach the port.',
    'local all all trust',
    'host all all all trust',
    '',
  ].join('\n');
}

/**
 * Loopback is always there (pgtide itself uses it); binding one address twice would only fill the log with
 * warnings.
 */
function listenAddresses(hosts: readonly string[]): string[] {
  const named = [...new Set(hosts)];
  if (named.some((host) => host === '*' || host === '' || host === '0.0.0.0' || host === '::')) return ['*'];
  const hasLoopback = named.some((host) => host === 'localhost' || host === '127.0.0.1');
  return hasLoopback ? named : ['127.0.0.1', ...named];
}

function values(title: string, settings: Record<string, string | number>): string[] {
  return [`# ${title}`, ...Object.entries(settings).map(([name, value]) => `${name} = ${quote(value)}`), ''];
}

/** In quotes where a list of directories would take it for several, or without its last blank. */
function directory(path: string): string {
  return /,|\s$/.test(path) ? `"${path.replaceAll('"', '""')}"` : path;
}

function quote(value: string | number): string {
  return typeof value === 'number' ? String(value) : `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
