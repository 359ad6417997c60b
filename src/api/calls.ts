import type { AdminRequest } from './commands.ts';
import type {
  Activation,
  BeatAnswer,
  BeatReport,
  JoinAnswer,
  JoinRequest,
  MetaCheck,
  MetaPart,
  MetaTransfer,
  StartRequest,
  WhoAmI,
} from './membership.ts';

/**
 * What any node can be asked, by the NAME in `POST /api/v1/NAME`: what is sent, and what the answer's
 * `result` is. The first four are carried out by the manager, whichever node they are sent to.
 */
export interface Calls {
  /** Which result a command has: `Results`. */
  admin: { sends: AdminRequest; gets: unknown };
  join: { sends: JoinRequest; gets: JoinAnswer };
  start: { sends: StartRequest; gets: null };
  beat: { sends: BeatReport; gets: BeatAnswer };
  'meta/part': { sends: MetaPart; gets: null };
  'meta/receive': { sends: MetaTransfer; gets: null };
  'meta/activate': { sends: Activation; gets: null };
  'meta/check': { sends: MetaCheck; gets: null };
  whoami: { sends: Record<string, never>; gets: WhoAmI };
  /** Begins to drain and to end. */
  quit: { sends: Record<string, never>; gets: { nodeId: number } };
}

export type CallName = keyof Calls;
