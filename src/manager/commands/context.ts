import type { ClusterView, LoadView, NodeId, TableRecord } from '../../catalog/model.ts';
import { tableName } from '../../catalog/view.ts';
import type { Clock } from '../../core/clock.ts';
import { type TideError, tideError } from '../../core/errors.ts';
import { type OperationRecord, partitionLock } from '../../operations/operation.ts';
import type { Runner } from '../../operations/runner.ts';
import type { Admissions } from '../admissions.ts';
import type { ApplyKeeper } from '../apply-keeper.ts';
import type { CatalogStore } from '../catalog-store.ts';
import type { ClusterLoad } from '../cluster-load.ts';
import type { EventLog } from '../event-log.ts';
import type { OutageWatch } from '../outage-watch.ts';
import type { Inspector, SharedAuthority } from '../ports.ts';

/** What every command may use. */
export interface CommandContext {
  readonly catalog: CatalogStore;
  readonly load: ClusterLoad;
  readonly runner: Runner;
  readonly events: EventLog;
  readonly outageWatch: OutageWatch;
  readonly admissions: Admissions;
  readonly inspector: Inspector;
  readonly streams: Pick<ApplyKeeper, 'failuresOf'>;
  readonly clock: Clock;
  /** The node this manager runs on. */
  readonly home: NodeId;
  /** Null where the meta store is embedded. */
  readonly shared: SharedAuthority | null;
  readonly view: ClusterView;
  readonly loadView: LoadView;
}

/** Throws PARTITION_BUSY where an operation holds the partition. */
export function requireFree(context: CommandContext, table: TableRecord, pid: number): void {
  const holder = context.runner.holderOf(partitionLock(table.tid, pid));
  if (holder) throw tideError('PARTITION_BUSY', { partition: `${tableName(table)} ${pid}`, operation: holder.id });
}

/** Throws BUSY where an operation holds the lock. */
export function requireLock(context: CommandContext, lock: string, what: string): void {
  const holder: OperationRecord | undefined = context.runner.holderOf(lock);
  if (holder) throw tideError('BUSY', { what, operation: holder.id });
}

/** So many reasons and hints stand in the sentence; all of them in the details. */
const SAID_MAX = 3;

/**
 * All that speaks against it, in one error: the first one's code and details, the first few sentences and
 * hints. Where there is more than one reason `details.reasons` has every one that follows, whole.
 */
export function throwAll(errors: readonly TideError[]): void {
  const [first, ...rest] = [...new Map(errors.map((e) => [`${e.code} ${e.message}`, e])).values()];
  if (!first) return;
  if (rest.length === 0) throw first;
  const said = rest.slice(0, SAID_MAX - 1).map((e) => `${e.message} (${e.code})`);
  const more = rest.length - said.length;
  const message = [first.message, ...said, ...(more > 0 ? [`and ${more} more reasons`] : [])].join('; ');
  const hint = [...new Set([first, ...rest].map((e) => e.hint))].slice(0, SAID_MAX).join('; ');
  const details = { ...first.details, reasons: rest.map((e) => e.toBody()) };
  throw Object.assign(first, { message, hint, details });
}
