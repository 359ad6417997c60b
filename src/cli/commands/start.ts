import type { Command } from 'commander';
import type { StartOptions } from '../../api/start-options.ts';
import { tideError } from '../../core/errors.ts';
import { type CliRun, define } from '../command.ts';
import { address, addresses, attributes, given, hostOf, integer, list, locality, positive } from '../flags.ts';

const SQL_PORT = 26257;
const HTTP_PORT = 8080;

type StartFlags = Omit<StartOptions, 'store' | 'httpAddr'> & { store?: string; httpAddr?: string };

/**
 * `tide start`: names and defaults follow KWDB, but an address without a host is 127.0.0.1, not every
 * interface.
 */
export function addStart(program: Command, run: CliRun): void {
  const port = integer(1, 65_535);
  define(program, {
    usage: 'start',
    summary: 'start a node: the first one makes a new cluster, --join names live nodes of the one to join',
    examples: [
      'tide start --store=/data/n1 --insecure',
      'tide start --store=/data/n2 --insecure --listen-addr=127.0.0.1:26258 --http-addr=127.0.0.1:8081 --join=127.0.0.1:26257',
      'tide start --store=/data/n1 --insecure --meta=etcd://10.0.0.1,10.0.0.2,10.0.0.3',
      'tide start --store=/data/n3 --insecure --listen-addr=10.0.0.3 --join=10.0.0.1,10.0.0.2 --locality=zone=c --background',
    ],
  })
    .option('--store <dir>', 'directory of this node alone; made where it is missing')
    .option(
      '--listen-addr <host:port>',
      'for PostgreSQL clients, nodes and the CLI; without a host it is 127.0.0.1, for every interface say 0.0.0.0:PORT',
      address(SQL_PORT),
      `127.0.0.1:${SQL_PORT}`,
    )
    .option(
      '--http-addr <host:port>',
      `for HTTP alone (default: host of --listen-addr, port ${HTTP_PORT})`,
      address(HTTP_PORT),
    )
    .option(
      '--advertise-addr <host:port>',
      'what others use to reach this node (default: --listen-addr)',
      address(SQL_PORT),
    )
    .option(
      '--host-names <names>',
      'more names by which HTTP may reach this node, of a proxy or a load balancer; any other name is refused',
      list,
    )
    .option(
      '--join <addresses>',
      'live nodes, comma-separated or repeated; one that answers is enough',
      addresses(SQL_PORT),
      [],
    )
    .option(
      '--meta <url>',
      "where the cluster's facts are kept, for more than one manager: etcd://h1:2379,h2:2379,h3:2379[/prefix] (default: in the first node)",
    )
    .option('--insecure', 'no certificates, no passwords: needed, this version has no others', false)
    .option('--locality <tiers>', 'where the node stands, most general first: zone=a,rack=1', locality)
    .option('--attrs <words>', 'what the node has: ssd,fast', attributes)
    .option('--postgres-port <port>', "port of this node's PostgreSQL (default: the listen port + 1000)", port)
    .option('--postgres-bin <dir>', 'directory of a PostgreSQL 18 of your own (default: the embedded one)')
    .option('--max-clients <n>', 'SQL sessions that the listen port lets in at once (default: 200)', integer(1, 5_000))
    .option('--workers <n>', 'processes that serve SQL sessions (default: one per core)', integer(1, 128))
    .option('--single-replica', 'one replica of everything: no copies, and data moves only when asked', false)
    .option('--min-nodes <n>', 'nodes that a scale-in has to leave (default: 3)', positive)
    .option('--background', 'return when the node is ready, and leave it running', false)
    .action(async (flags: StartFlags) => {
      if (!flags.insecure) throw tideError('INSECURE_REQUIRED', { listenAddr: flags.listenAddr });
      run.status = await run.host.startNode(startOptions(flags));
    });
}

function startOptions(flags: StartFlags): StartOptions {
  const { store, listenAddr, join, insecure, singleReplica, background, httpAddr, ...optional } = flags;
  if (!store) throw storeMissing();
  const http = httpAddr ?? `${hostOf(listenAddr)}:${HTTP_PORT}`;
  return { store, listenAddr, httpAddr: http, join, insecure, singleReplica, background, ...given(optional) };
}

/** Not commander's required option: that one is reported before a misspelt `--stroe`. */
function storeMissing() {
  const problem = 'a node needs a directory for its data: --store=DIR';
  return tideError('USAGE', { problem, command: 'tide start', suggestion: null });
}
