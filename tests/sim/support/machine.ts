import type { NodeId } from '../../../src/catalog/model.ts';
import type { FakeServer } from '../../fakes/fake-server.ts';

/** A node's machine: its node process and its PostgreSQL, which live and die by themselves. */
export class Machine {
  readonly id: NodeId;
  readonly server: FakeServer;
  /** The node process runs; which of its lives this is. */
  up = true;
  life = 1;
  /** The node process is stopped in its tracks. */
  frozen = false;
  /** False: not even a port refuses. */
  powered = true;
  /** It never comes back. */
  lost = false;
  /** Which PostgreSQL of this node runs: a permission is for one only. */
  pid = 1;
  startedMs = 0;
  /** Starts in a row that did not last. */
  attempts = 0;
  diskFreeShare = 0.9;
  /** Time that a statement of the manager takes here, milliseconds. */
  slowMs = 0;
  /** Whether clients are sent here: it has made up for everything it missed. */
  upToDate = true;
  beatSinceMs: number | null = null;

  constructor(id: NodeId, server: FakeServer) {
    this.id = id;
    this.server = server;
  }
}
