import type { Moment } from '../../src/operations/crash-points.ts';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';

export interface Boundary {
  readonly kind: string;
  readonly step: string;
  readonly moment: Moment;
  /**
   * Behind the point of no return there is only forward, and what is being undone is never taken up again.
   * Null: either way.
   */
  readonly ends: 'done' | 'cancelled' | null;
  /**
   * Of an undo: where the operation is cancelled first. Its step is done there, unless it is the last: after
   * that there is nothing to cancel.
   */
  readonly cancelledAt: Moment | null;
}

export const nameOf = ({ kind, step, moment }: Omit<Boundary, 'ends' | 'cancelledAt'>) => `${kind}/${step}/${moment}`;

/**
 * Every boundary there is, from the definitions of the operations: after a step is before the next one, so
 * only the last has an `after`. Undos that do nothing have none: whoever dies in one has died before the undo
 * that comes next.
 */
export function boundariesOf(kind: string): Boundary[] {
  const steps = OPERATION_KINDS.get(kind)?.steps ?? [];
  const noReturn = steps.findIndex((s) => s.noReturn);
  return steps.flatMap(({ name, undo }, i) => {
    const at = (moment: Moment, ends: Boundary['ends'], cancelledAt: Moment | null = null): Boundary => ({
      kind,
      step: name,
      moment,
      ends,
      cancelledAt,
    });
    const passed = noReturn >= 0 && i > noReturn;
    const effected = noReturn >= 0 && i >= noReturn;
    const isLast = i === steps.length - 1;
    const isUndone = !effected && !('nothingToUndo' in undo);
    return [
      at('before', passed ? 'done' : null),
      at('effect', effected ? 'done' : null),
      ...(isLast ? [at('after', 'done')] : []),
      ...(isUndone ? [at('undone', 'cancelled', isLast ? 'before' : 'effect')] : []),
    ];
  });
}
