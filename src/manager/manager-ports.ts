import type { WhoAmI } from '../api/membership.ts';
import type { NodeId } from '../catalog/model.ts';
import type { Clock } from '../core/clock.ts';
import type { TideError } from '../core/errors.ts';
import type { Claim } from '../core/starts.ts';
import type { DataPlane } from '../operations/ports.ts';
import type { MetaStore } from '../store/meta-store.ts';
import type { Inspector, SharedAuthority } from './ports.ts';

/** What a manager needs of the process it runs in. */
export interface ManagerPorts {
  store: MetaStore;
  /** Null: the store is this node's own, and nobody else can manage. */
  shared: SharedAuthority | null;
  /** The start of the node that this manager runs in. */
  start: Claim;
  /** Who answers at an address, HOST:PORT; null: nobody, or no node. */
  whoIs(address: string): Promise<WhoAmI | null>;
  /** The node has managed since, with another copy of this store: to be called when that is seen. */
  overtaken(error: TideError): void;
  /**
   * It cannot go on, for a defect or because somebody else writes the store: to be abandoned, and another to
   * be started.
   */
  broken(why: unknown): void;
  clock: Clock;
  random: () => number;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
  /** Made with look-ups into this manager's catalog. */
  servers(lookups: { addressOf(node: NodeId): { host: string; port: number }; reachable(node: NodeId): boolean }): {
    plane: DataPlane;
    inspector: Inspector;
    close(): Promise<void>;
    /** Ends what is under way, and lets nothing new begin. */
    cut(): void;
  };
}
