import { API_VERSION, type BeatAnswer, type NodeFacts } from '../../../src/api/membership.ts';
import type { NodeId } from '../../../src/catalog/model.ts';
import { TideError } from '../../../src/core/errors.ts';
import { STORE_FORMAT } from '../../../src/node/store-dir.ts';
import { META_FORMAT } from '../../../src/store/meta-store.ts';
import type { Machine } from './machine.ts';
import type { SimWorld } from './world.ts';

/**
 * What the node processes do (src/node): beat, obey the fence, start PostgreSQL again when it has ended, run
 * the manager at home.
 */

const BEAT_MS = 500;
const CALL_MS = 2_000;
const START_MS = 300;
const RESTART_MS = 200;
const SETTLED_MS = 60_000;
const DISK_BYTES = 1e12;

export function factsOf(id: NodeId): NodeFacts {
  return {
    api: API_VERSION,
    storeFormat: STORE_FORMAT,
    address: `10.0.0.${id}:26257`,
    httpAddress: `10.0.0.${id}:8080`,
    postgresHost: `10.0.0.${id}`,
    postgresPort: 5432,
    locality: [{ key: 'zone', value: 'abc'.charAt(id % 3) }],
    attrs: [],
    build: 'sim',
    startMode: 'start',
    startedAt: '2026-01-01T00:00:00.000Z',
  };
}

export class Nodes {
  readonly #world: SimWorld;

  constructor(world: SimWorld) {
    this.#world = world;
  }

  /** The node process starts, over a PostgreSQL that runs or does not. */
  start(machine: Machine): void {
    machine.up = true;
    machine.life += 1;
    if (machine.id === this.#world.home && !this.#world.managerProcess) this.#world.beside(this.#world.startManager());
    this.#world.beside(this.#beating(machine));
    if (!machine.server.alive) this.#world.beside(this.#restart(machine));
  }

  crashProcess(machine: Machine): void {
    machine.up = false;
    machine.frozen = false;
    if (machine.id === this.#world.home) this.#world.killManager();
  }

  crashPostgres(machine: Machine): void {
    if (!machine.server.alive) return;
    this.#world.cluster.end(machine.id);
    machine.server.frozen = false;
    machine.upToDate = false;
    this.#world.count('servers crashed');
    if (machine.up) this.#world.beside(this.#restart(machine));
  }

  freeze(machine: Machine, what: 'machine' | 'process' | 'postgres'): void {
    if (what !== 'postgres') machine.frozen = true;
    if (what !== 'process') machine.server.frozen = machine.server.alive;
    if (what !== 'postgres' && machine.id === this.#world.home) this.#world.managerProcess?.freeze();
  }

  thaw(machine: Machine): void {
    machine.frozen = false;
    machine.server.frozen = false;
    if (machine.id === this.#world.home) this.#world.managerProcess?.thaw();
  }

  /** The supervisor: after pauses that double, behind the fence. */
  async #restart(machine: Machine): Promise<void> {
    const { clock } = this.#world;
    const { life } = machine;
    if (clock.nowMs() - machine.startedMs > SETTLED_MS) machine.attempts = 0;
    await clock.sleep(RESTART_MS * 2 ** Math.min(machine.attempts, 5) + START_MS);
    while (machine.frozen) await clock.sleep(BEAT_MS);
    if (!machine.up || machine.life !== life || machine.server.alive) return;
    machine.attempts += 1;
    machine.pid += 1;
    machine.startedMs = clock.nowMs();
    machine.server.alive = true;
    machine.server.fenced = true;
    this.#world.say(`n${machine.id}: PostgreSQL starts again, behind its fence`);
  }

  async #beating(machine: Machine): Promise<void> {
    const { life } = machine;
    while (machine.up && machine.life === life) {
      if (!machine.frozen) this.beat(machine);
      await this.#world.clock.sleep(BEAT_MS);
    }
  }

  beat(machine: Machine): void {
    const { world } = { world: this.#world };
    const nowMs = world.clock.nowMs();
    if (machine.beatSinceMs !== null && nowMs - machine.beatSinceMs < CALL_MS) return;
    machine.beatSinceMs = nowMs;
    world.beside(
      this.#tell(machine).finally(() => {
        if (machine.beatSinceMs === nowMs) machine.beatSinceMs = null;
      }),
    );
  }

  async #tell(machine: Machine): Promise<void> {
    const { world } = { world: this.#world };
    const { home, managerProcess } = world;
    const { pid, life, server } = machine;
    const sentMs = world.clock.nowMs();
    const report = {
      node: machine.id,
      clusterId: 'sim',
      postgresUp: server.alive && !server.frozen,
      fenced: server.fenced || !server.alive,
      leased: false,
      metaFormat: META_FORMAT,
      diskTotalBytes: DISK_BYTES,
      diskFreeBytes: DISK_BYTES * machine.diskFreeShare,
      facts: factsOf(machine.id),
      sessions: null,
      answeredMs: null,
      applyErrors: [],
      start: null,
      managedBy: null,
    };
    if (!managerProcess || !world.network.passes(machine.id, home)) return;
    // What a frozen manager has been sent lies there and is read when it goes on.
    await managerProcess.turn();
    const { manager } = world;
    if (!manager || world.managerProcess !== managerProcess) return;
    const answer = await manager.beat(report).catch((error: unknown) => {
      if (error instanceof TideError) return null;
      throw error;
    });
    const heard = world.network.passes(home, machine.id) && machine.life === life && machine.up && !machine.frozen;
    if (answer && heard && world.clock.nowMs() - sentMs < CALL_MS) await this.#obey(machine, answer, pid);
  }

  async #obey(machine: Machine, answer: BeatAnswer, pid: number): Promise<void> {
    const { server } = machine;
    if (answer.state === 'decommissioned') return this.#retire(machine);
    machine.upToDate = answer.upToDate && answer.state !== 'joining' && !server.fenced;
    const wanted = answer.fence === 'keep' ? server.fenced : answer.fence === 'up';
    if (!server.alive || machine.pid !== pid || wanted === server.fenced) return;
    await this.#world.clock.sleep(20);
    if (!server.alive || server.frozen || machine.pid !== pid) return;
    server.fenced = wanted;
    if (wanted) this.#world.say(`n${machine.id}: fenced`);
    else this.#world.count('servers let in');
    machine.beatSinceMs = null;
    this.beat(machine);
  }

  /** A node that has left is stopped. */
  #retire(machine: Machine): void {
    machine.up = false;
    machine.powered = false;
    this.#world.cluster.end(machine.id);
    this.#world.say(`n${machine.id}: has left and is stopped`);
  }
}
