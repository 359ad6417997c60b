import { entry } from './entry.ts';

/** Errors of calling: wrong arguments, nobody answers, no manager. */
export const apiErrors = {
  BAD_REQUEST: entry<{ what: string; why: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `${d.what}: ${d.why}`,
    hint: () => 'see the help of the command (--help) for what it takes',
  }),
  UNREACHABLE: entry<{ address: string; why: string; refused?: boolean }>({
    retry: 'later',
    sqlstate: '08001',
    text: (d) => `no pgtide node answers at ${d.address}: ${d.why}`,
    hint: () => 'check that the node runs, and name the listen address of a live node with --host=HOST:PORT',
  }),
  NOT_PGTIDE: entry<{ address: string; status: number }>({
    retry: 'never',
    sqlstate: '08P01',
    text: (d) => `what answers at ${d.address} is not a pgtide node (HTTP status ${d.status})`,
    hint: () => 'name the --listen-addr or --http-addr of a node',
  }),
  NO_MANAGER: entry<{ manager: string; why: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `the manager at ${d.manager} does not answer: ${d.why}`,
    hint: () =>
      'what live nodes lead is still served; start the node that holds the meta store, and repeat the command',
  }),
  FOREIGN_HOST: entry<{ host: string }>({
    retry: 'never',
    sqlstate: '28000',
    text: (d) => `this node is not known as '${d.host}': a web page may have sent the request here`,
    hint: () => 'use an address of the node, or start it with --host-names naming this name, too',
  }),
  FOREIGN_ORIGIN: entry<{ origin: string }>({
    retry: 'never',
    sqlstate: '28000',
    text: (d) => `the request comes from another site: ${d.origin}`,
    hint: () => 'web pages of other sites may not use the admin API; send it from a program',
  }),
  NOT_JSON: entry<{ type: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `the request does not say that it is JSON (${d.type})`,
    hint: () => 'send a JSON object, with the header content-type: application/json',
  }),
  BODY_TOO_LARGE: entry<{ bytesMax: number }>({
    retry: 'never',
    sqlstate: '54000',
    text: (d) => `the request is longer than ${d.bytesMax >> 20} MiB`,
    hint: () => 'shorten it; a longer meta store moves only between nodes that are newer than version 0.1',
  }),
  ROUTE_UNKNOWN: entry<{ method: string; path: string }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `the admin API has no ${d.method} ${d.path}`,
    hint: () => 'commands go to POST /api/v1/admin, questions about health to GET /health',
  }),
  NODE_BUSY: entry<{ requests: number }>({
    retry: 'later',
    sqlstate: '53000',
    text: (d) =>
      `the node has ${d.requests === 1 ? 'one request' : `${d.requests} requests`} of this kind under way and takes no more`,
    hint: () => 'repeat it in a moment',
  }),
  USAGE: entry<{ problem: string; command: string; suggestion: string | null }>({
    retry: 'never',
    sqlstate: '42601',
    text: (d) => d.problem,
    hint: (d) => (d.suggestion === null ? `${d.command} --help shows what it takes` : `did you mean ${d.suggestion}?`),
  }),
  NOT_CONFIRMED: entry<{ what: string }>({
    retry: 'never',
    sqlstate: '57014',
    text: (d) => `${d.what}: not confirmed, nothing was done`,
    hint: () => 'answer y, or give --yes beforehand',
  }),
  PIDS_INVALID: entry<{ value: string; why: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `'${d.value}' does not name partitions: ${d.why}`,
    hint: () => 'name one partition (3), a list (1,3,5) or a range (1-5)',
  }),
  INSECURE_REQUIRED: entry<{ listenAddr: string }>({
    retry: 'never',
    sqlstate: '0A000',
    text: (d) => `a node at ${d.listenAddr} would have no certificates: this version runs insecure clusters only`,
    hint: () =>
      'say --insecure if everybody who can reach the address may use the data, and keep it to 127.0.0.1 or a private network',
  }),
  FILE_UNREADABLE: entry<{ file: string; why: string }>({
    retry: 'never',
    sqlstate: '58P01',
    text: (d) => `the file ${d.file} cannot be read: ${d.why}`,
    hint: () => 'check its name and permissions; - reads from standard input',
  }),
  OP_NOT_DONE: entry<{ id: number; subject: string; status: string; why: string; next: string }>({
    retry: 'when-cluster-changes',
    sqlstate: '55000',
    text: (d) => `operation ${d.id} (${d.subject}) ${d.status}${d.why === '' ? '' : `: ${d.why}`}`,
    hint: (d) => d.next,
  }),
  WAIT_LOST: entry<{ id: string; address: string; seconds: number; why: string }>({
    retry: 'later',
    sqlstate: '08006',
    text: (d) => `lost sight of operation ${d.id}: ${d.address} has not answered for ${d.seconds} s (${d.why})`,
    hint: (d) => `it is journaled and goes on by itself; tide op watch ${d.id} --host=HOST:PORT of a live node`,
  }),
  QUIT_UNFINISHED: entry<{ address: string; seconds: number }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `the node at ${d.address} still answers ${d.seconds} s after it was told to quit`,
    hint: () => 'its log says what it waits for; SIGTERM to its process asks for the same',
  }),
  META_MOVING: entry<{ to: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `the meta store is on its way to ${d.to}`,
    hint: () => 'repeat the command in a moment; data is served all the time',
  }),
  META_URL_INVALID: entry<{ url: string; why: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `'${d.url}' does not say where etcd is: ${d.why}`,
    hint: () =>
      'name the client ports: etcd://h1:2379,h2:2379,h3:2379, or with a prefix of your own etcd://h1:2379/tide',
  }),
  META_UNREACHABLE: entry<{ endpoints: string; why: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `etcd does not answer at ${d.endpoints}: ${d.why}`,
    hint: () => 'check the addresses, and that a majority of the etcd servers runs (etcdctl endpoint status)',
  }),
  META_REFUSED: entry<{ why: string }>({
    retry: 'later',
    sqlstate: '58000',
    text: (d) => `etcd refuses: ${d.why}`,
    hint: () => 'docs/operations.md, "Running with etcd", says what etcd has to allow',
  }),
  META_NOT_EMPTY: entry<{ url: string; found: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `${d.url} holds ${d.found} already`,
    hint: () => 'name another prefix (etcd://HOST:PORT/PREFIX), or join that cluster with an empty --store',
  }),
  META_NOT_FOUNDED: entry<{ url: string; founder: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `the cluster at ${d.url} is being founded by the node at ${d.founder} and has no member yet`,
    hint: () => 'repeat this when that node runs; if it is gone for good, name another prefix',
  }),
  META_SHARED: entry<{ url: string; what: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `${d.what}: the meta store is in etcd (${d.url})`,
    hint: () => 'any node may manage the cluster; tide manager ls shows who does',
  }),
  META_EMBEDDED: entry<{ path: string }>({
    retry: 'never',
    sqlstate: '55000',
    text: (d) => `the cluster of the node in ${d.path} keeps its facts in an embedded meta store`,
    hint: () => 'start it without --meta, then: tide meta migrate --to=etcd://…',
  }),
  NO_MANAGER_ELECTED: entry<{ why: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `no node manages the cluster now: ${d.why}`,
    hint: () =>
      'repeat the command in some seconds; if this stays, look at etcd and at the nodes (docs/operations.md, "Running with etcd")',
  }),
  MANAGER_LOST: entry<{ node: number }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `node ${d.node} does not manage the cluster any more`,
    hint: () => 'repeat the command: another node has taken over, or will within seconds',
  }),
  INTERNAL: entry<{ why: string }>({
    retry: 'later',
    sqlstate: 'XX000',
    text: (d) => `unexpected failure: ${d.why}`,
    hint: () => "this is a defect of pgtide; the node's log has the stack",
  }),
};
