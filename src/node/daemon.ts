import type { BeatAnswer, NodeFacts, WhoAmI } from '../api/membership.ts';
import type { StartOptions } from '../api/start-options.ts';
import { slotWalKeepBytes } from '../catalog/retention.ts';
import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { ApplyErrors } from '../postgres/apply-errors.ts';
import { findBinaries } from '../postgres/binaries.ts';
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
import { findCluster, firstIdentity } from './belong.ts';
import { DeadlockAnswers } from './deadlock-answers.ts';
import { openDoors } from './doors.ts';
import { EmbeddedManager } from './embedded-manager.ts';
import { diskOf, nodeFacts, parseLocality } from './facts.ts';
import { Farewell } from './farewell.ts';
import { FenceKeeper } from './fence-keeper.ts';
import { seekManager } from './find-manager.ts';
import { Heartbeat } from './heartbeat.ts';
import { createHttp } from './http.ts';
import { Identity } from './identity.ts';
import { untilUncaught } from './last-resort.ts';
import { openLog } from './log.ts';
import type { ImportMeta, ManagerHandle, MetaPlace, SharedPorts, StartManager } from './manager-handle.ts';
import { MetaMover } from './meta-mover.ts';
import { createMux } from './mux.ts';
import { OwnStart } from './own-start.ts';
import { PassThrough, type PassThroughOptions } from './pass-through.ts';
import { formatAddress } from './ports.ts';
import { awaitIdle } from './sessions.ts';
import { SharedMeta } from './shared-meta.ts';
import { holdStore, type NodeIdentity, prepareStore, requireStartable, type StoreDir } from './store-dir.ts';
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
const DRAIN_MS = 10_000;

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
  readonly #embedded: EmbeddedManager;
  readonly #farewell = new Farewell();
  #ready = false;
  #stopAccepting: () => void = () => {};
  readonly #mover: MetaMover;
  readonly #answers = new DeadlockAnswers();
  readonly #topology = new TopologyFeed();
  #shared: SharedMeta | null = null;
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
    this.#embedded = new EmbeddedManager({
      start: (broken) => this.#startManager({ directory: store.meta }, broken),
      log: this.#note,
    });
    this.#mover = new MetaMover({
      identity: () => this.#known.required,
      remember: (change, again) => this.#known.remember(change, again),
      manager: () => this.#embedded.handle,
      giveAwayManager: () => this.#embedded.giveAway(),
      startManager: () => this.#startEmbedded(),
      openShared: (url) => ports.shared.open(url),
      share: (url) => this.#share(url, true),
      importMeta: ports.importMeta,
      directory: store.meta,
      log: this.#note,
    });
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
      managerHere: () => this.#managerHere(),
      managerAddress: () => this.#managerAddress(),
      openShared: (url) => this.#ports.shared.open(url),
      ended: () => this.#ended,
      log: this.#note,
      say: (text) => this.#ports.stderr(`${text}\n`),
    });
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => this.#askToEnd(signal));
    return untilUncaught(
      () => this.#serve([() => lock.release(), () => this.#noteEnd()]),
      async () => this.#shared?.seat.end(),
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
      if (this.#refusal === null) await this.#drain();
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
    cleanups.push(await this.#listen(() => (this.#ready && this.#server?.letsIn ? this.#server.localEndpoint : null)));
    await this.#own.ask(peer, this.#options.meta ?? peer?.meta ?? this.#identity?.meta ?? null);
    await ensureDataDir(this.#store.pgdata, binaries);
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
    const supervisor: Supervisor = supervise(postgres, (event) => this.#log.warn(event, 'postgres'));
    cleanups.push(async () => this.#shared?.endLease());
    cleanups.push(async () => {
      await supervisor.end();
      await postgres.stop('fast');
    });
    cleanups.push(keepChecksRenewed(postgres.port, this.#note));
    await this.#belong(peer, postgres.port);
    cleanups.push(async () => {
      await this.#shared?.seat.end();
      await this.#embedded.end();
    });
    cleanups.push(
      followTopology(this.#topology, {
        clusterId: this.#known.required.clusterId,
        managesHere: () => this.#managerHere() !== null,
        managerAddress: () => this.#managerAddress(),
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
      leased: () => this.#shared === null || this.#shared.lease.leftMs > 0,
      ended: () => this.#ended,
      say: this.#ports.stderr,
    });
    this.#ready = true;
    const banner = this.#banner(isNew, performance.now() - beganMs, binaries.version, postgres.port);
    this.#log.info({ banner }, 'ready');
    this.#ports.stdout(`${banner}\n`);
    await reportReady(banner);
  }

  #startMode(): NodeIdentity['startMode'] {
    return this.#options.singleReplica ? 'start-single-replica' : 'start';
  }

  #facts(postgresPort: number): NodeFacts {
    const made = { build: this.#ports.version, startedAt: this.#startedAt.toISOString(), startMode: this.#startMode() };
    return nodeFacts(this.#options, this.#addresses, { ...made, postgresPort });
  }

  #managerAddress(): string {
    return this.#shared?.seat.requireLeader() ?? this.#identity?.manager ?? '';
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

  /** Both ports, before anything is made on disk: a port in use is the commonest mistake. */
  async #listen(target: PassThroughOptions['target']): Promise<() => Promise<void>> {
    const http = createHttp({
      manager: () => this.#managerHere(),
      withManager: (send) => this.#withManager(send),
      isShared: () => this.#shared !== null,
      mover: this.#mover,
      topology: this.#topology,
      checkMeta: async (url) => void (await this.#ports.shared.look(this.#ports.shared.open(url))),
      whoAmI: () => this.#whoAmI(),
      clusterId: () => this.#identity?.clusterId ?? null,
      onStart: (request) => this.#own.hearStart(request),
      quit: () => this.#askToEnd('asked to quit'),
      ready: () => this.#ready,
      names: this.#addresses.names,
      onConnect: (request, socket) => this.#farewell.receive(request, socket),
      log: this.#note,
    });
    const sessionsMax = this.#options.maxClients ?? CLIENTS_DEFAULT;
    const sessions = new PassThrough({ target, sessionsMax, answers: this.#answers });
    const mux = createMux({
      onHttp: (socket) => http.server.emit('connection', socket),
      onPostgres: (socket, letIn) => sessions.receive(socket, letIn),
    });
    await openDoors(this.#addresses, http, mux);
    this.#stopAccepting = () => mux.close();
    return async () => {
      mux.close();
      await sessions.close(DRAIN_MS);
      await this.#farewell.beside(http.close());
    };
  }

  /**
   * No new sessions, and time for those that are at work to finish; PostgreSQL then tells the idle ones that
   * it ends (57P01).
   */
  async #drain(): Promise<void> {
    this.#farewell.say({ says: 'ends its sessions and its PostgreSQL, which goes on' });
    this.#stopAccepting();
    if (this.#server) await awaitIdle(this.#server, DRAIN_MS);
  }

  #whoAmI(): WhoAmI {
    const identity = this.#identity;
    if (!identity) throw tideError('NO_MANAGER', { manager: 'this node', why: 'it is starting and has no id yet' });
    const { nodeId, clusterId, startMode, manager, meta } = identity;
    return { nodeId, clusterId, startMode, manager: this.#shared?.seat.leader ?? manager, meta, ...this.#own.told() };
  }

  /** Begins a cluster, joins one, or takes up the old place in one. */
  async #belong(peer: WhoAmI | null, postgresPort: number): Promise<void> {
    const facts = this.#facts(postgresPort);
    const identity = this.#identity;
    const addresses = {
      listenAddress: formatAddress(this.#addresses.listen),
      advertiseAddress: facts.address,
      httpAddress: facts.httpAddress,
      postgresPort,
    };
    const begun =
      identity ?? (await firstIdentity(facts, peer, () => this.#findCluster(), this.#options, this.#ports.shared));
    const meta = this.#options.meta ?? peer?.meta ?? begun.meta;
    await this.#known.begin({
      ...begun,
      ...addresses,
      ...(peer ? { manager: peer.manager } : {}),
      ...(begun.metaHome ? { manager: facts.address } : {}),
      ...(meta === null ? {} : { meta, metaHome: false }),
    });
    await (meta === null ? this.#startEmbedded() : this.#share(meta, false));
  }

  async #startEmbedded(): Promise<void> {
    if (this.#known.required.metaHome) await this.#embedded.start();
  }

  async #startManager(meta: MetaPlace, broken: (error: unknown) => void): Promise<ManagerHandle> {
    const identity = this.#known.required;
    const manager = await this.#ports.startManager({
      meta,
      home: identity.nodeId,
      clusterId: identity.clusterId,
      startMode: identity.startMode,
      minNodes: this.#options.minNodes,
      start: this.#own.starts.claim,
      overtaken: (error) => this.#refuse(error),
      broken,
      log: this.#note,
    });
    manager.followTopology((topology) => this.#topology.publish(topology));
    if (!manager.hasMembers()) await manager.join(this.#facts(identity.postgresPort));
    return manager;
  }

  /**
   * Takes part in the election, and keeps a lease from now on. `serving`: the node has served without one so
   * far.
   */
  async #share(url: string, serving: boolean): Promise<void> {
    if (this.#shared !== null) return;
    const { nodeId, advertiseAddress } = this.#known.required;
    this.#shared = new SharedMeta({
      url,
      store: this.#ports.shared.open(url),
      node: nodeId,
      start: this.#own.starts,
      address: advertiseAddress,
      directory: this.#store,
      serving,
      isFenced: () => this.#server?.fenced !== false,
      startManager: (grant) => this.#startManager({ ...grant, url }, (error) => grant.giveUp(messageOf(error))),
      log: this.#note,
    });
    await this.#shared.start();
  }

  /** The manager, while it runs in this process. */
  #managerHere(): ManagerHandle | null {
    return this.#shared === null ? this.#embedded.handle : this.#shared.seat.manager;
  }

  async #withManager<T>(send: (address: string) => Promise<T>): Promise<T> {
    const { movingTo } = this.#mover;
    if (movingTo !== null) throw tideError('META_MOVING', { to: movingTo });
    if (this.#shared !== null) return this.#shared.withManager(send);
    // Asked by itself it would ask itself again.
    const { metaHome = false, manager = '', advertiseAddress = null } = this.#identity ?? {};
    if (metaHome || manager === advertiseAddress)
      throw tideError('NO_MANAGER', { manager: 'this node', why: 'it is about to start, or knows of no other' });
    try {
      return await send(manager);
    } catch (error) {
      if (error instanceof TideError && error.code !== 'UNREACHABLE') throw error;
      throw tideError('NO_MANAGER', { manager, why: messageOf(error) }, error);
    }
  }

  #beat(server: PostgresServer): { heartbeat: Heartbeat; fence: FenceKeeper } {
    const identity = this.#known.required;
    const heartbeat = new Heartbeat({
      nodeId: identity.nodeId,
      clusterId: identity.clusterId,
      facts: this.#facts(server.port),
      store: this.#store.root,
      server,
      applyErrors: new ApplyErrors(this.#store.postgresLog),
      answers: this.#answers,
      manager: () => this.#managerHere(),
      start: this.#own.starts.id,
      managedBy: () => this.#own.starts.managedBy,
      askToStart: () => this.#own.askAgain(),
      managerAddress: () => this.#managerAddress(),
      seekManager: () => seekManager(this.#known, () => this.#mover.movingTo === null && !this.#embedded.handle),
      leased: () => (this.#shared?.lease.leftMs ?? 0) > 0,
      onAnswer: (answer, pid) => {
        this.#hear(answer);
        fence.obey(answer, pid);
      },
      onRefused: (error) => this.#refuse(error),
      log: this.#note,
    });
    const lease = () => this.#shared?.lease ?? null;
    const fence = new FenceKeeper({ server, lease, log: this.#note, onChange: () => heartbeat.hurry() });
    heartbeat.start();
    fence.start();
    return { heartbeat, fence };
  }

  /** A decommissioned node goes on forwarding until it is stopped, and never starts again. */
  #hear(answer: BeatAnswer): void {
    this.#answer = answer;
    const identity = this.#identity;
    if (!identity) return;
    // While the meta store moves, only the move itself says who manages.
    const settled = this.#mover.movingTo === null && this.#embedded.handle === null;
    const heard: Partial<NodeIdentity> = { peers: answer.peers };
    if (answer.storeFormat !== undefined) heard.formatVersion = answer.storeFormat;
    if (answer.state === 'decommissioned') {
      heard.state = 'decommissioned';
      this.#shared?.seat.resign();
    }
    if (settled && identity.metaFrom === null) heard.manager = answer.manager;
    const migrated = settled && answer.meta !== null && identity.meta === null ? answer.meta : null;
    if (migrated !== null) Object.assign(heard, { meta: migrated, metaHome: false });
    this.#shared?.lease.setLength(answer.leaseSeconds);
    Promise.all([this.#known.remember(heard), this.#own.hear(answer)])
      .then(() => (migrated === null ? undefined : this.#share(migrated, true)))
      .catch((error) => {
        this.#log.error({ error: messageOf(error) }, 'what the manager said could not be written to the store');
      });
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
