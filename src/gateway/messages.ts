import type { RelationName } from '../api/relations.ts';
import type { TopologyChange } from '../routing/topology.ts';
import type { Outcome, Work } from './admin/reading.ts';
import type { Refusal } from './refuse.ts';

/**
 * What a node's process and its gateway workers say to each other. The node's process says who may come in,
 * for all workers together; the workers have the sessions.
 */

/** Where a session goes to, or why it does not. */
export type Verdict =
  | {
      readonly to: ServerAddress;
      /** As whom its statements may be executed where their rows are; null: they may not. */
      readonly routedAs: Identity | null;
    }
  | { readonly refusal: Refusal };

export interface Identity {
  readonly database: string;
  /** Of the client. It may do with every distributed table what `peer` may. */
  readonly role: string;
  /** As which other servers execute its statements. */
  readonly peer: string;
}

export type ServerAddress = { readonly path: string } | { readonly host: string; readonly port: number };

export type ToWorker =
  /** With a PostgreSQL client's connection; `begun` was read from it. */
  | { readonly say: 'client'; readonly begun: Buffer }
  | { readonly say: 'topology'; readonly change: TopologyChange }
  | { readonly say: 'verdict'; readonly session: number; readonly verdict: Verdict }
  /** To be answered by `expects`. */
  | { readonly say: 'expect-deadlock'; readonly call: number; readonly processId: number; readonly detail: string }
  /** Whoever has the session of this key (process and secret) cancels what it executes elsewhere. */
  | { readonly say: 'cancel'; readonly key: Buffer }
  /** What was asked for in this call, by `look` or `perform`, is done. */
  | { readonly say: 'worked'; readonly call: number; readonly outcome: Outcome }
  | { readonly say: 'forget-deadlock'; readonly processId: number }
  /** The worker ends when its sessions have, and cuts those that are left after `graceMs`. */
  | { readonly say: 'end'; readonly graceMs: number };

export type FromWorker =
  /** It takes clients. */
  | { readonly say: 'ready' }
  /** May this one in? `session` is the worker's own number for it. */
  | { readonly say: 'asks'; readonly session: number; readonly who: Who }
  | { readonly say: 'ended'; readonly session: number }
  /** To be passed on to the other workers. */
  | { readonly say: 'cancel'; readonly key: Buffer }
  /** These relations are to be brought up to date. */
  | { readonly say: 'look'; readonly call: number; readonly relations: readonly RelationName[] }
  | { readonly say: 'perform'; readonly call: number; readonly work: Work }
  /** Whether the process has a session in this worker. */
  | { readonly say: 'expects'; readonly call: number; readonly found: boolean };

export type SessionKind = 'startup' | 'cancel';

/** What a client has said of itself. */
export interface Who {
  readonly kind: SessionKind;
  /** Whom it wants to be; null in a request to cancel. */
  readonly role: string | null;
  readonly database: string | null;
}
