import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { post } from '../api/client.ts';
import { API_VERSION, type BeatAnswer, type MetaTransfer, type NodeFacts, type WhoAmI } from '../api/membership.ts';
import type { StartOptions } from '../api/start-options.ts';
import { slotWalKeepBytes } from '../catalog/retention.ts';
import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import { findBinaries } from '../postgres/binaries.ts';
import { socketDirFor } from '../postgres/config.ts';
import { ensureDataDir } from '../postgres/initdb.ts';
import { bringDatabaseUpToDate } from '../postgres/own-database.ts';
import { chooseUser } from '../postgres/privileges.ts';
import { PostgresServer } from '../postgres/server.ts';
import { type Supervisor, supervise } from '../postgres/supervise.ts';
import { type Addresses, readAddresses } from './addresses.ts';
import { reportFailed, reportReady, startInBackground } from './background.ts';
import { type BannerStatus, renderBanner } from './banner.ts';
import { diskOf, parseLocality } from './facts.ts';
import { FenceKeeper, waitText } from './fence-keeper.ts';
import { askAny, Heartbeat, join } from './heartbeat.ts';
import { createHttp } from './http.ts';
import { openLog } from './log.ts';
import type { ImportMeta, ManagerHandle, StartManager } from './manager-handle.ts';
import { createMux } from './mux.ts';
import { formatAddress, listenError, parseAddress } from './ports.ts';
import { busySessions } from './sessions.ts';
import {
  holdStore,
  type NodeIdentity,
  prepareStore,
  readIdentity,
  requireSameCluster,
  requireStartable,
  STORE_FORMAT,
  type StoreDir,
  writeIdentity,
} from './store-dir.ts';

export interface DaemonPorts {
  startManager: StartManager;
  importMeta: ImportMeta;
  version: string;
  stdout(text: string): void;
  stderr(text: string): void;
}

const JOIN_TRIES_MS = 10_000;
const MIB = 1 << 20;
const DRAIN_MS = 10_000;
const DRAIN_POLL_MS = 50;
/** A restarted node waits this long to make up for what it missed; then it serves what it has, which forwards and is never wrong. */
const CATCH_UP_MS = 15_000;
const WAIT_REPORT_MS = 5_000;
const META_MOVE_MS = 60_000;

/** Runs a node until it is told to end. Resolves with the exit status; with `background`, as soon as the node in the background is ready. */
export async function runNode(options: StartOptions, ports: DaemonPorts): Promise<number> {
  try {
    const addresses = readAddresses(options);
    const runAs = await chooseUser();
    const store = await prepareStore(options.store, runAs);
    if (options.background) {
      const args = process.argv.slice(1).filter((a) => a !== '--background' && a !== '--background=true');
      const { text } = await startInBackground(args, store.nodeLog);
      ports.stdout(`${text}\n`);
      return 0;
    }
    return await new Daemon(options, ports, addresses, store).run(runAs);
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
  readonly #end: Promise<string>;
  #askToEnd: (why: string) => void = () => {};
  #identity: NodeIdentity | null = null;
  #manager: ManagerHandle | null = null;
  #ready = false;
  readonly #writers = new KeyedMutex();
  #stopAccepting: () => void = () => {};
  #busySessions: () => Promise<number> = async () => 0;
  /** HOST:PORT the meta store is on its way to. */
  #movingTo: string | null = null;
  #answer: BeatAnswer | null = null;
  #refusal: TideError | null = null;

  constructor(options: StartOptions, ports: DaemonPorts, addresses: Addresses, store: StoreDir) {
    this.#options = options;
    this.#ports = ports;
    this.#addresses = addresses;
    this.#store = store;
    this.#log = openLog(store.nodeLog, () => this.#identity?.nodeId ?? null);
    this.#end = new Promise((resolve) => {
      this.#askToEnd = resolve;
    });
  }

  async run(runAs: Awaited<ReturnType<typeof chooseUser>>): Promise<number> {
    const lock = await holdStore(this.#store);
    const cleanups: (() => Promise<unknown>)[] = [() => lock.release()];
    process.on('SIGTERM', () => this.#askToEnd('SIGTERM'));
    process.on('SIGINT', () => this.#askToEnd('SIGINT'));
    try {
      await this.#start(runAs, cleanups);
      const why = await this.#end;
      this.#log.info({ why }, 'the node ends');
      await this.#drain();
      return 0;
    } finally {
      this.#ready = false;
      for (const clean of cleanups.reverse()) {
        await clean().catch((error) => this.#log.warn({ error: messageOf(error) }, 'cleaning up failed'));
      }
      this.#log.flush();
    }
  }

  async #start(runAs: Awaited<ReturnType<typeof chooseUser>>, cleanups: (() => Promise<unknown>)[]): Promise<void> {
    const beganMs = performance.now();
    const { options, startMode } = { options: this.#options, startMode: this.#startMode() };
    this.#identity = await readIdentity(this.#store);
    const isNew = this.#identity === null;
    if (this.#identity) requireStartable(this.#store, this.#identity, startMode);
    const binaries = await findBinaries({ postgresBin: options.postgresBin, runAs });
    const peer = await this.#findCluster();
    let server: PostgresServer | null = null;
    cleanups.push(await this.#listen(() => (this.#ready && server?.letsIn ? server.localEndpoint : null)));
    await ensureDataDir(this.#store.pgdata, binaries, runAs);
    const postgres = new PostgresServer({
      binaries,
      dataDir: this.#store.pgdata,
      logFile: this.#store.postgresLog,
      runAs,
      settings: {
        port: this.#identity?.postgresPort ?? this.#addresses.postgresPort,
        listenHosts: [this.#addresses.listen.host === '' ? '*' : this.#addresses.listen.host],
        socketDir: socketDirFor(this.#store.run, this.#addresses.postgresPort),
        slotWalKeepMb: slotWalKeepBytes((await diskOf(this.#store.root)).diskTotalBytes) / MIB,
      },
      onWait: (text) => this.#ports.stderr(`${text}\n`),
    });
    server = postgres;
    await postgres.start();
    if (await bringDatabaseUpToDate(this.#identity?.nodeId ?? 0, postgres.port))
      this.#log.info({ version: this.#ports.version }, 'the database was brought up to date');
    this.#busySessions = () => busySessions({ host: '127.0.0.1', port: postgres.port });
    const supervisor: Supervisor = supervise(postgres, (event) => this.#log.warn(event, 'postgres'));
    cleanups.push(async () => {
      await supervisor.end();
      await postgres.stop('fast');
    });
    await this.#belong(peer, postgres.port);
    cleanups.push(async () => this.#manager?.stop());
    const heartbeat = this.#beat(postgres);
    cleanups.push(() => heartbeat.end());
    await this.#awaitMembership(isNew, postgres);
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
    return {
      api: API_VERSION,
      address: formatAddress(this.#addresses.advertise),
      httpAddress: formatAddress({
        ...this.#addresses.http,
        host: this.#addresses.http.host || this.#addresses.advertise.host,
      }),
      postgresHost: this.#addresses.advertise.host,
      postgresPort,
      locality: parseLocality(this.#options.locality),
      attrs: (this.#options.attrs ?? '')
        .split(',')
        .map((a) => a.trim())
        .filter((a) => a !== ''),
      build: this.#ports.version,
      startedAt: this.#startedAt.toISOString(),
      startMode: this.#startMode(),
    };
  }

  /** Whom `--join` reaches. A new node needs one; a restarted one only has to be told where the manager is now. */
  async #findCluster(): Promise<WhoAmI | null> {
    parseLocality(this.#options.locality);
    const { join } = this.#options;
    const identity = this.#identity;
    const addresses = [
      ...join,
      ...(identity && !identity.metaHome ? [identity.manager, ...identity.peers] : []),
    ].filter((a) => a !== formatAddress(this.#addresses.advertise));
    if (addresses.length === 0) return null;
    const untilMs = performance.now() + (identity ? 0 : JOIN_TRIES_MS);
    for (;;) {
      try {
        const found = await askAny(addresses.map((a) => formatAddress(parseAddress('--join', a, 26_257))));
        if (identity) requireSameCluster(this.#store, identity, found.clusterId);
        return found;
      } catch (error) {
        if (error instanceof TideError && error.code !== 'UNREACHABLE') throw error;
        if (performance.now() < untilMs) {
          await sleep(500);
          continue;
        }
        if (identity) return null;
        throw tideError('JOIN_UNREACHABLE', { addresses: join.join(', '), why: messageOf(error) }, error);
      }
    }
  }

  /** Both ports, before anything is made on disk: a port in use is the commonest mistake. */
  async #listen(postgresTarget: Parameters<typeof createMux>[0]['postgresTarget']): Promise<() => Promise<void>> {
    const http = createHttp({
      manager: () => this.#manager,
      managerAddress: () => this.#managerAddress(),
      handOver: (node) => this.#handOver(node),
      receiveMeta: (transfer) => this.#receiveMeta(transfer),
      activateMeta: (from) => this.#activateMeta(from),
      whoAmI: () => this.#whoAmI(),
      quit: () => this.#askToEnd('asked to quit'),
      ready: () => this.#ready,
    });
    await http.ready();
    const mux = createMux({ onHttp: (socket) => http.server.emit('connection', socket), postgresTarget });
    await mux.listen('--listen-addr', this.#addresses.listen);
    this.#stopAccepting = () => void mux.drain();
    const { host, port } = this.#addresses.http;
    try {
      await http.listen({ host: host === '' ? '::' : host, port });
    } catch (error) {
      await mux.close(0);
      throw listenError('--http-addr', this.#addresses.http, error);
    }
    return async () => {
      await mux.close(DRAIN_MS);
      await http.close();
    };
  }

  /** No new sessions, and time for those that are at work to finish; PostgreSQL then tells the idle ones that it ends (57P01). */
  async #drain(): Promise<void> {
    this.#stopAccepting();
    const untilMs = performance.now() + DRAIN_MS;
    while (performance.now() < untilMs && (await this.#busySessions().catch(() => 0)) > 0) await sleep(DRAIN_POLL_MS);
  }

  #whoAmI(): WhoAmI {
    const identity = this.#identity;
    if (!identity) throw tideError('NO_MANAGER', { manager: 'this node', why: 'it is starting and has no id yet' });
    const { nodeId, clusterId, startMode, manager } = identity;
    return { nodeId, clusterId, startMode, manager };
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
    if (!identity && peer) {
      const joined = await join(facts, peer.manager, async () => (await this.#findCluster())?.manager, JOIN_TRIES_MS);
      await this.#begin({
        formatVersion: STORE_FORMAT,
        nodeId: joined.nodeId,
        clusterId: joined.clusterId,
        startMode: facts.startMode,
        state: 'member',
        metaHome: false,
        manager: joined.manager,
        metaFrom: null,
        peers: [],
        ...addresses,
      });
      return;
    }
    await this.#begin({
      ...(identity ?? {
        formatVersion: STORE_FORMAT,
        nodeId: 1,
        clusterId: randomUUID(),
        startMode: facts.startMode,
        state: 'member',
        metaHome: true,
        manager: facts.address,
        metaFrom: null,
        peers: [],
      }),
      ...addresses,
      ...(peer ? { manager: peer.manager } : {}),
      ...(identity?.metaHome ? { manager: facts.address } : {}),
    });
    await this.#startManager(facts);
  }

  async #startManager(facts: NodeFacts): Promise<void> {
    const identity = must(this.#identity, 'identity');
    if (!identity.metaHome) return;
    this.#manager = await this.#ports.startManager({
      directory: this.#store.meta,
      home: identity.nodeId,
      clusterId: identity.clusterId,
      startMode: identity.startMode,
      minNodes: this.#options.minNodes,
      log: (level, message, more) => this.#log[level](more, message),
    });
    if (!this.#manager.hasMembers()) await this.#manager.join(facts);
  }

  #managerAddress(): string {
    if (this.#movingTo !== null) throw tideError('META_MOVING', { to: this.#movingTo });
    return this.#identity?.manager ?? '';
  }

  /**
   * Hands the meta store and the manager to another node. The turning point is this node's own note that it is not the home any more: before
   * it, a crash leaves the manager here and a copy there that never runs; after it, the copy runs at the first word from here.
   */
  async #handOver(node: number): Promise<{ node: number; address: string }> {
    const identity = must(this.#identity, 'identity');
    const manager = must(this.#manager, 'manager');
    const address = manager.successor(node);
    if (node === identity.nodeId) return { node, address };
    this.#movingTo = address;
    this.#manager = null;
    try {
      const entries = await manager.stopAndExport();
      const transfer: MetaTransfer = { clusterId: identity.clusterId, from: identity.nodeId, entries };
      await post(address, '/api/v1/meta/receive', transfer, { timeoutMs: META_MOVE_MS });
      await this.#remember({ metaHome: false, manager: address });
    } catch (error) {
      await this.#startManager(this.#facts(identity.postgresPort));
      throw error;
    } finally {
      this.#movingTo = null;
    }
    await post(address, '/api/v1/meta/activate', { from: identity.nodeId }, { timeoutMs: META_MOVE_MS });
    this.#log.info({ to: node, address }, 'the meta store has moved');
    return { node, address };
  }

  async #receiveMeta({ clusterId, from, entries }: MetaTransfer): Promise<void> {
    const identity = must(this.#identity, 'identity');
    if (clusterId !== identity.clusterId || this.#manager !== null) {
      throw tideError('BAD_REQUEST', {
        what: 'meta store',
        why: 'this node is of another cluster or runs the manager',
      });
    }
    await this.#remember({ metaFrom: null });
    await this.#ports.importMeta(this.#store.meta, entries);
    await this.#remember({ metaFrom: from });
  }

  async #activateMeta(from: number): Promise<void> {
    const identity = this.#identity;
    if (identity?.metaFrom !== from || this.#manager !== null) return;
    await this.#remember({ metaFrom: null, metaHome: true, manager: identity.advertiseAddress });
    await this.#startManager(this.#facts(identity.postgresPort));
  }

  async #begin(identity: NodeIdentity): Promise<void> {
    await writeIdentity(this.#store, identity);
    this.#identity = identity;
  }

  /** Changes who the node is, one writer after the other, on disk before in memory. */
  async #remember(change: Partial<NodeIdentity>): Promise<void> {
    await this.#writers.run('identity', async () => {
      const before = must(this.#identity, 'identity');
      const after = { ...before, ...change };
      if (JSON.stringify(after) === JSON.stringify(before)) return;
      await writeIdentity(this.#store, after);
      this.#identity = after;
    });
  }

  #beat(server: PostgresServer): Heartbeat {
    const log = (level: 'info' | 'warn' | 'error', message: string, facts: object) => this.#log[level](facts, message);
    const identity = must(this.#identity, 'identity');
    const heartbeat = new Heartbeat({
      nodeId: identity.nodeId,
      clusterId: identity.clusterId,
      facts: this.#facts(server.port),
      store: this.#store.root,
      server,
      manager: () => this.#manager,
      managerAddress: () => this.#identity?.manager ?? '',
      onAnswer: (answer, pid) => {
        this.#hear(answer);
        fence.obey(answer, pid);
      },
      onRefused: (error) => {
        this.#refusal = error;
      },
      log,
    });
    const fence = new FenceKeeper({ server, log, onChange: () => heartbeat.hurry() });
    heartbeat.start();
    return heartbeat;
  }

  /** A decommissioned node goes on forwarding until it is stopped, and never starts again. */
  #hear(answer: BeatAnswer): void {
    this.#answer = answer;
    const identity = this.#identity;
    if (!identity) return;
    // While the meta store moves, only the move itself says who manages.
    const settled = this.#movingTo === null && this.#manager === null;
    const heard: Partial<NodeIdentity> = { peers: answer.peers };
    if (answer.state === 'decommissioned') heard.state = 'decommissioned';
    if (settled && identity.metaFrom === null) heard.manager = answer.manager;
    this.#remember(heard).catch((error) => {
      this.#log.error({ error: messageOf(error) }, 'what the manager said could not be written to the store');
    });
  }

  async #awaitMembership(isNew: boolean, server: PostgresServer): Promise<void> {
    const beganMs = performance.now();
    let reportedMs = beganMs;
    let ended = false;
    void this.#end.then(() => {
      ended = true;
    });
    for (;;) {
      if (this.#refusal) throw this.#refusal;
      const answer = this.#answer;
      const nodeId = this.#identity?.nodeId ?? 0;
      // The cluster could not take it in, or let it go while it was away: its id is spent.
      if (answer?.state === 'decommissioned') {
        throw tideError('STORE_DECOMMISSIONED', { path: this.#store.root, nodeId });
      }
      if (answer && answer.state !== 'joining' && !server.fenced && (isNew || answer.upToDate)) return;
      const now = performance.now();
      if (ended) throw tideError('JOIN_STOPPED', { node: nodeId, why: 'it was told to end' });
      if (!isNew && answer?.state !== 'joining' && !server.fenced && now - beganMs > CATCH_UP_MS) {
        this.#ports.stderr(
          `node ${nodeId} serves before it has caught up: ${answer ? 'other nodes are slow to answer' : 'the manager does not answer'}\n`,
        );
        return;
      }
      if (now - reportedMs > WAIT_REPORT_MS) {
        reportedMs = now;
        this.#ports.stderr(`node ${nodeId} ${waitText(answer, server.fenced)}\n`);
      }
      await sleep(50);
    }
  }

  #banner(isNew: boolean, tookMs: number, postgresVersion: string, postgresPort: number): string {
    const identity = must(this.#identity, 'identity');
    const facts = this.#facts(postgresPort);
    const joined: BannerStatus = identity.metaHome
      ? 'initialized new cluster'
      : 'initialized new node, joined pre-existing cluster';
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
