import type { Refusal } from './refuse.ts';

/**
 * What a node's process and its gateway workers say to each other. The node's process says who may come in,
 * for all workers together; the workers have the sessions.
 */

/** Where a session goes to, or why it does not. */
export type Verdict = { readonly to: ServerAddress } | { readonly refusal: Refusal };

export type ServerAddress = { readonly path: string } | { readonly host: string; readonly port: number };

export type ToWorker =
  /** With a PostgreSQL client's connection; `begun` was read from it. */
  | { readonly say: 'client'; readonly begun: Buffer }
  | { readonly say: 'verdict'; readonly session: number; readonly verdict: Verdict }
  /** To be answered by `expects`. */
  | { readonly say: 'expect-deadlock'; readonly call: number; readonly processId: number; readonly detail: string }
  | { readonly say: 'forget-deadlock'; readonly processId: number }
  /** The worker ends when its sessions have, and cuts those that are left after `graceMs`. */
  | { readonly say: 'end'; readonly graceMs: number };

export type FromWorker =
  /** It takes clients. */
  | { readonly say: 'ready' }
  /** May this one in? `session` is the worker's own number for it. */
  | { readonly say: 'asks'; readonly session: number; readonly kind: SessionKind; readonly role: string | null }
  | { readonly say: 'ended'; readonly session: number }
  /** Whether the process has a session in this worker. */
  | { readonly say: 'expects'; readonly call: number; readonly found: boolean };

export type SessionKind = 'startup' | 'cancel';
