import { apiErrors } from './errors/api.ts';
import { clusterErrors } from './errors/cluster.ts';
import type { ErrorEntry } from './errors/entry.ts';
import { nodeErrors } from './errors/node.ts';
import { operationErrors } from './errors/operation.ts';
import { settingErrors } from './errors/setting.ts';
import { tableErrors } from './errors/table.ts';
import { NAMED_MAX } from './lists.ts';
import { describeLocalData, type LocalData } from './local-data.ts';

/** Every error a user can meet, by its stable code. `docs/errors.md` is tested against it. */
export const CATALOGUE = {
  ...apiErrors,
  ...clusterErrors,
  ...nodeErrors,
  ...operationErrors,
  ...settingErrors,
  ...tableErrors,
};

export type ErrorCode = keyof typeof CATALOGUE;
export type ErrorDetails<C extends ErrorCode> = (typeof CATALOGUE)[C] extends ErrorEntry<infer D> ? D : never;

/**
 * An error with a stable code. It travels over the API as `ErrorBody` and is the only kind of error shown to
 * users.
 */
export class TideError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;
  readonly hint: string;
  readonly retry: ErrorEntry<object>['retry'];
  readonly sqlstate: string;

  constructor(body: ErrorBody, options?: { cause?: unknown }) {
    super(body.message, options);
    this.name = 'TideError';
    this.code = body.code;
    this.details = body.details;
    this.hint = body.hint;
    this.retry = body.retry;
    this.sqlstate = body.sqlstate;
  }

  toBody(): ErrorBody {
    const { code, message, hint, retry, sqlstate, details } = this;
    return { code, message, hint, retry, sqlstate, details };
  }
}

export interface ErrorBody {
  code: ErrorCode;
  message: string;
  hint: string;
  retry: ErrorEntry<object>['retry'];
  sqlstate: string;
  details: Readonly<Record<string, unknown>>;
}

/** Builds (does not throw) the error `code`, its text and hint made from `details`. */
export function tideError<C extends ErrorCode>(code: C, details: ErrorDetails<C>, cause?: unknown): TideError {
  const found = CATALOGUE[code] as unknown as ErrorEntry<ErrorDetails<C>>;
  const body: ErrorBody = {
    code,
    message: found.text(details),
    hint: found.hint(details),
    retry: found.retry,
    sqlstate: found.sqlstate,
    details: details as Readonly<Record<string, unknown>>,
  };
  return new TideError(body, cause === undefined ? undefined : { cause });
}

/**
 * What an error's sentence names only the first few of, in lines; also of the further reasons that it stands
 * for. Empty where the sentence says all, or this program does not know the code.
 */
export function listOf(error: Pick<TideError, 'code' | 'message' | 'details'>): string[] {
  const { list } = (CATALOGUE[error.code] ?? {}) as { list?: string };
  const named = arrayIn(error.details, list ?? '') as (string | LocalData)[];
  const names = named.map((each) => (typeof each === 'string' ? each : describeLocalData([each], 1)));
  const reasons = arrayIn(error.details, 'reasons') as ErrorBody[];
  const unsaid = (reason: ErrorBody) =>
    error.message.includes(reason.message) ? [] : [`${reason.message} (${reason.code})`];
  return [
    ...(names.length > NAMED_MAX ? names : []),
    ...reasons.flatMap((reason) => [...unsaid(reason), ...listOf(reason)]),
  ];
}

/** Empty where there is none: a cluster of another version may have answered. */
function arrayIn(details: TideError['details'], key: string): unknown[] {
  const found = details[key];
  return Array.isArray(found) ? found : [];
}

/**
 * The message of anything that was thrown; a connection refused on several addresses has an empty message of
 * its own.
 */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  if (error instanceof Error) return error.message || error.name;
  return String(error);
}
