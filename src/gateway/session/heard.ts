import { TYPE } from '../wire/messages.ts';

/** What a session looks at of what its server sends. */
export const OURS: ReadonlySet<number> = new Set([
  TYPE.parseComplete,
  TYPE.closeComplete,
  TYPE.errorResponse,
  TYPE.notice,
  TYPE.readyForQuery,
  TYPE.parameterStatus,
  TYPE.backendKeyData,
]);
/** What a question in the client's place is answered with. */
export const ANSWERS: ReadonlySet<number> = new Set([
  ...[TYPE.parseComplete, TYPE.bindComplete, TYPE.dataRow, TYPE.commandComplete, TYPE.closeComplete],
  ...[TYPE.errorResponse, TYPE.notice, TYPE.readyForQuery],
]);
