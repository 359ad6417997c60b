import { availableParallelism } from 'node:os';
import type { BeatAnswer, NodeFacts, WhoAmI } from '../api/membership.ts';
import type { StartOptions } from '../api/start-options.ts';
import { slotWalKeepBytes } from '../catalog/retention.ts';
import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { ApplyErrors } from '../postgres/apply-errors.ts';
import { findBinaries, type PostgresBinaries } from '../postgres/binaries.ts';
import { CLIENTS_DEFAULT, socketDirFor } from '../postgres/config.ts';
import { forgetEnvironment } from '../postgres/environment.ts';
import { ensureDataDir } from '../postgres/initdb.ts';
import { bringDatabaseUpToDate, keepChecksRenewed } from '../postgres/own-database.ts';
import { PostgresServer } from '../postgres/server.ts';
import { type Supervisor, supervise } from '../postgres/supervise.ts';
import { leaveRoot } from '../root/leave-root.ts';
import { type Addresses, readAddresses } from './addresses.ts';
import { awaitMembership } from './await-membership.ts';
import { reportFailed, reportReady, reportWait, startInBackground } from './background.ts';
import { type BannerStatus, renderBanner } from './banner.ts';
import { findCluster, takePlace } from './belong.ts';
import { type Endpoints, openEndpoints } from './endpoints.ts';
import { diskOf, nodeFacts, parseLocality } from './facts.ts';
import { Farewell } from './farewell.ts';
import { FenceKeeper } from './fence-keeper.ts';
import { seekManager } from './find-manager.ts';
import { GatewayWorkers } from './gateway-workers.ts';
import { Heartbeat } from './heartbeat.ts';
import { Identity } from './identity.ts';
import { untilUncaught } from './last-resort.ts';
import { openLog } from './log.ts';
import { Management } from './management.ts';
import type { ImportMeta, SharedPorts, StartManager } from './manager-handle.ts';
import { OwnStart } from './own-start.ts';
import { SqlAdmin } from './sql-admin.ts';
import { holdStore, type NodeIdentity, prepareStore, requireStartable, type StoreDir } from './store-dir.ts';
import { formatAddress } from './tcp-address.ts';
import { TopologyFeed } from './topology-feed.ts';
import { followTopology } from './topology-follower.ts';

export interface DaemonPorts {
  startManager: StartManager;
  importMeta: ImportMeta;
  shared: SharedPorts;
  version: string;
  stdout(text: string): void;
  stderr(text: string): void;
}

const MIB = 1 << 20;

/**
 * Runs a node until it is told to end. Resolves with the exit status; with `background`, as soon as the node
 * in the background is ready.
 */
export async function runNode(options: StartOptions, ports: DaemonPorts): Promise<number> {
  try {
    const addresses = readAddresses(options);
    await leaveRoot(options);
    process.umask(0o077);
    forgetEnvironment();
    const store = await prepareStore(options.store);
    if (options.background) {
      const args = process.argv.slice(1).filter((a) => a !== '--background' && a !== '--background=true');
      const { text } = await startInBackground(args, store.nodeLog, ports.stderr);
      ports.stdout(`${text}\n`);
      return 0;
    }
    const stderr = (text: string) => {
      ports.stderr(text);
      reportWait(text);
    };
    return await new Daemon(options, { ...ports, stderr }, addresses, store).run();
  } catch (error) {
    const failure = error instanceof TideError ? error : tideError('INTERNAL', { why: messageOf(error) }, error);
    await reportFailed(failure);
    throw failure;
  }
}

class Daemon {
  readonly #options: StartOptions;
  readonly #ports: DaemonPorts;
  readonly #addresses: Addresses;
  readonly #store: StoreDir;
  readonly #startedAt = new Date();
  readonly #log;
  readonly #note = (level: 'info' | 'warn' | 'error', text: string, facts: object) => this.#log[level](facts, text);
  readonly #end: Promise<string>;
  #askToEnd: (why: string) => void = () => {};
  readonly #known: Identity;
  readonly #management: Management;
  readonly #farewell = new Farewell();
  readonly #sqlAdmin: SqlAdmin;
  readonly #workers: GatewayWorkers;
  readonly #topology = new TopologyFeed();
  #endpoints: Endpoints | null = null;
  #ready = false;
  #server: PostgresServer | null = null;
  #ownStart: OwnStart | null = null;
  #ended = false;
  #answer: BeatAnswer | null = null;
  #refusal: TideError | null = null;

  constructor(options: StartOptions, ports: DaemonPorts, addresses: Addresses, store: StoreDir) {
    this.#options = options;
    this.#ports = ports;
    this.#addresses = addresses;
    this.#store = store;
    this.#known = new Identity(store);
    this.#management = new Management({
      ...ports,
      store,
      identity: this.#known,
      topology: this.#topology,
      minNodes: options.minNodes,
      ownStart: () => this.#own,
      facts: (postgresPort) => this.#facts(postgresPort),
      isFenced: () => this.#server?.fenced !== false,
      onOvertaken: (error) => this.#refuse(error),
      log: this.#note,
    });
    this.#sqlAdmin = new SqlAdmin({
      address: () => (this.#ready ? formatAddress(addresses.advertise) : null),
      clusterId: () => this.#identity?.clusterId ?? null,
      server: () => this.#server,
      log: this.#note,
    });
    this.#workers = new GatewayWorkers({
      sqlAdmin: this.#sqlAdmin,
      workers: options.workers ?? availableParallelism(),
      target: () => (this.#ready && this.#server?.letsIn ? this.#server.localEndpoint : null),
      sessionsMax: options.maxClients ?? CLIENTS_DEFAULT,
      log: this.#note,
    });
    this.#topology.follow((topology) => this.#workers.useTopology(topology));
    this.#log = openLog(store.nodeLog, () => this.#identity?.nodeId ?? null);
    this.#end = new Promise((resolve) => {
      this.#askToEnd = (why) => {
        this.#ended = true;
        resolve(why);
      };
    });
  }

  async run(): Promise<number> {
    const lock = await holdStore(this.#store);
    this.#ownStart = await OwnStart.begin({
      store: this.#store,
      address: formatAddress(this.#addresses.advertise),
      identity: () => this.#identity,
      managerHere: () => this.#management.here,
      managerAddress: () => this.#management.requireAddress(),
      openShared: (url) => this.#ports.shared.open(url),
      ended: () => this.#ended,
      log: this.#note,
      say: (text) => this.#ports.stderr(`${text}\n`),
    });
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => this.#askToEnd(signal));
    return untilUncaught(
      () => this.#serve([() => lock.release(), () => this.#noteEnd()]),
      async () => this.#management.shared?.seat.end(),
      (message, facts) => {
        this.#log.fatal(facts, message);
        this.#log.flush();
      },
    );
  }

  async #serve(cleanups: (() => Promise<unknown>)[]): Promise<number> {
    try {
      await this.#start(cleanups);
      const why = await this.#end;
      this.#log.info({ why }, 'the node ends');
      // Another start of this node is it by now: whoever is in here must not wait to be told.
      if (this.#refusal === null) await this.#endpoints?.drain(this.#server);
      else await this.#server?.fence().catch((e) => this.#log.warn({ error: messageOf(e) }, 'the fence is not up'));
      if (this.#refusal !== null) throw this.#refusal;
      return 0;
    } catch (error) {
      if (error instanceof TideError) this.#log.error({ code: error.code, error: error.message }, 'the node gives up');
      throw error;
    } finally {
      this.#ready = false;
      for (const clean of cleanups.reverse()) {
        await clean().catch((error) => this.#log.warn({ error: messageOf(error) }, 'cleaning up failed'));
      }
      this.#log.flush();
      this.#farewell.say({ ended: true, postgres: this.#server?.isRunning() ? 'runs' : 'stopped' });
    }
  }

  /**
   * A PostgreSQL that was left running is taken over by nobody but this store: as long as it runs this start
   * has not ended.
   */
  async #noteEnd(): Promise<void> {
    if (!this.#server?.isRunning()) await this.#own.starts.end();
  }

  get #identity(): NodeIdentity | null {
    return this.#known.value;
  }

  get #own(): OwnStart {
    return must(this.#ownStart, 'this start');
  }

  async #start(cleanups: (() => Promise<unknown>)[]): Promise<void> {
    const beganMs = performance.now();
    await this.#known.read();
    const isNew = this.#identity === null;
    if (this.#identity) requireStartable(this.#store, this.#identity, this.#startMode());
    const binaries = await findBinaries(this.#options.postgresBin);
    parseLocality(this.#options.locality);
    const peer = await this.#findCluster();
    // Before anything is made on disk: a port in use is the commonest mistake.
    const endpoints = await this.#openEndpoints();
    this.#endpoints = endpoints;
    cleanups.push(() => endpoints.close());
    await this.#own.ask(peer, this.#options.meta ?? peer?.meta ?? this.#identity?.meta ?? null);
    await ensureDataDir(this.#store.pgdata, binaries);
    const postgres = await this.#startPostgres(binaries);
    const supervisor: Supervisor = supervise(postgres, (event) => this.#log.warn(event, 'postgres'));
    cleanups.push(async () => this.#management.shared?.endLease());
    cleanups.push(async () => {
      await supervisor.end();
      await postgres.stop('fast');
    });
    cleanups.push(keepChecksRenewed(postgres.port, this.#note));
    cleanups.push(() => this.#sqlAdmin.close());
    await this.#belong(peer, postgres.port);
    cleanups.push(() => this.#management.end());
    cleanups.push(
      followTopology(this.#topology, {
        clusterId: this.#known.required.clusterId,
        managesHere: () => this.#management.here !== null,
        managerAddress: () => this.#management.requireAddress(),
      }),
    );
    const { heartbeat, fence } = this.#beat(postgres);
    cleanups.push(() => fence.end());
    cleanups.push(() => heartbeat.end());
    await awaitMembership({
      nodeId: this.#known.required.nodeId,
      path: this.#store.root,
      isNew,
      server: postgres,
      answer: () => this.#answer,
      refusal: () => this.#refusal,
      trouble: () => heartbeat.trouble,
      leased: () => this.#management.shared === null || this.#management.shared.lease.leftMs > 0,
      ended: () => this.#ended,
      say: this.#ports.stderr,
    });
    this.#ready = true;
    const banner = this.#banner(isNew, performance.now() - beganMs, binaries.version, postgres.port);
    this.#log.info({ banner }, 'ready');
    this.#ports.stdout(`${banner}\n`);
    await reportReady(banner);
  }

  async #startPostgres(binaries: PostgresBinaries): Promise<PostgresServer> {
    const postgres = new PostgresServer({
      binaries,
      dataDir: this.#store.pgdata,
      logFile: this.#store.postgresLog,
      settings: {
        port: this.#identity?.postgresPort ?? this.#addresses.postgresPort,
        listenHosts: [this.#addresses.listen.host === '' ? '*' : this.#addresses.listen.host],
        socketDir: socketDirFor(this.#store.run, this.#addresses.postgresPort),
        ...(this.#options.maxClients === undefined ? {} : { maxClients: this.#options.maxClients }),
        slotWalKeepMb: slotWalKeepBytes((await diskOf(this.#store.root)).diskTotalBytes) / MIB,
      },
      onWait: (text) => this.#ports.stderr(`${text}\n`),
    });
    this.#server = postgres;
    await postgres.start();
    if (await bringDatabaseUpToDate(this.#identity?.nodeId ?? 0, postgres.port))
      this.#log.info({ version: this.#ports.version }, 'the database was brought up to date');
    return postgres;
  }

  #startMode(): NodeIdentity['startMode'] {
    return this.#options.singleReplica ? 'start-single-replica' : 'start';
  }

  #facts(postgresPort: number): NodeFacts {
    const made = { build: this.#ports.version, startedAt: this.#startedAt.toISOString(), startMode: this.#startMode() };
    return nodeFacts(this.#options, this.#addresses, { ...made, postgresPort });
  }

  #refuse(error: TideError): void {
    // One that was taken in before serves on under a manager that does not understand it.
    if (error.code === 'NODE_INCOMPATIBLE' && this.#ready) return;
    this.#refusal = error;
    this.#askToEnd(error.message);
  }

  #findCluster(): Promise<WhoAmI | null> {
    const own = formatAddress(this.#addresses.advertise);
    return findCluster(this.#store, this.#identity, this.#options, own, this.#ports.shared);
  }

  #openEndpoints(): Promise<Endpoints> {
    const management = this.#management;
    return openEndpoints({
      addresses: this.#addresses,
      farewell: this.#farewell,
      workers: this.#workers,
      http: {
        manager: () => management.here,
        withManager: (send) => management.withManager(send),
        isShared: () => management.shared !== null,
        mover: management.mover,
        topology: this.#topology,
        checkMeta: async (url) => void (await this.#ports.shared.look(this.#ports.shared.open(url))),
        whoAmI: () => this.#whoAmI(),
        clusterId: () => this.#identity?.clusterId ?? null,
        onStart: (request) => this.#own.hearStart(request),
        quit: () => this.#askToEnd('asked to quit'),
        ready: () => this.#ready,
        log: this.#note,
      },
    });
  }

  #whoAmI(): WhoAmI {
    const identity = this.#identity;
    if (!identity) throw tideError('NO_MANAGER', { manager: 'this node', why: 'it is starting and has no id yet' });
    const { nodeId, clusterId, startMode, manager, meta } = identity;
    return {
      nodeId,
      clusterId,
      startMode,
      manager: this.#management.shared?.seat.leader ?? manager,
      meta,
      ...this.#own.told(),
    };
  }

  async #belong(peer: WhoAmI | null, postgresPort: number): Promise<void> {
    const meta = await takePlace({
      identity: this.#known,
      facts: this.#facts(postgresPort),
      listenAddress: formatAddress(this.#addresses.listen),
      peer,
      find: () => this.#findCluster(),
      options: this.#options,
      shared: this.#ports.shared,
    });
    await this.#management.begin(meta);
  }

  #beat(server: PostgresServer): { heartbeat: Heartbeat; fence: FenceKeeper } {
    const identity = this.#known.required;
    const management = this.#management;
    const heartbeat = new Heartbeat({
      nodeId: identity.nodeId,
      clusterId: identity.clusterId,
      facts: this.#facts(server.port),
      store: this.#store.root,
      server,
      applyErrors: new ApplyErrors(this.#store.postgresLog),
      clients: this.#workers,
      manager: () => management.here,
      start: this.#own.starts.id,
      managedBy: () => this.#own.starts.managedBy,
      askToStart: () => this.#own.askAgain(),
      managerAddress: () => management.requireAddress(),
      seekManager: () => seekManager(this.#known, () => management.isSettled),
      leased: () => (management.shared?.lease.leftMs ?? 0) > 0,
      onAnswer: (answer, processId) => {
        this.#answer = answer;
        management.hear(answer);
        fence.obey(answer, processId);
      },
      onRefused: (error) => this.#refuse(error),
      log: this.#note,
    });
    const lease = () => management.shared?.lease ?? null;
    const fence = new FenceKeeper({ server, lease, log: this.#note, onChange: () => heartbeat.hurry() });
    heartbeat.start();
    fence.start();
    return { heartbeat, fence };
  }

  #banner(isNew: boolean, tookMs: number, postgresVersion: string, postgresPort: number): string {
    const identity = this.#known.required;
    const facts = this.#facts(postgresPort);
    const joined: BannerStatus =
      identity.nodeId === 1 ? 'initialized new cluster' : 'initialized new node, joined pre-existing cluster';
    return renderBanner({
      startedAt: this.#startedAt.toISOString(),
      tookMs,
      version: this.#ports.version,
      postgresVersion,
      advertiseAddress: facts.address,
      httpAddress: facts.httpAddress,
      postgresAddress: formatAddress({ host: facts.postgresHost, port: postgresPort }),
      store: this.#store.root,
      logs: this.#store.nodeLog,
      locality: this.#options.locality ?? '',
      status: isNew ? joined : 'restarted pre-existing node',
      clusterId: identity.clusterId,
      nodeId: identity.nodeId,
    });
  }
}
