import type { Moment } from '../../src/operations/crash-points.ts';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';

export interface Boundary {
  readonly kind: string;
  readonly step: string;
  readonly moment: Moment;
  /** Behind the point of no return there is only forward. */
  readonly mustBeDone: boolean;
}

export const nameOf = ({ kind, step, moment }: Boundary) => `${kind}/${step}/${moment}`;

/** Every boundary there is, from the definitions of the operations: after a step is before the next one, so only the last has an `after`. */
export function boundariesOf(kind: string): Boundary[] {
  const steps = OPERATION_KINDS.get(kind)?.steps ?? [];
  const noReturn = steps.findIndex((s) => s.noReturn);
  return steps.flatMap(({ name }, i) => {
    const at = (moment: Moment, mustBeDone: boolean) => ({ kind, step: name, moment, mustBeDone });
    const passed = noReturn >= 0 && i > noReturn;
    const effected = noReturn >= 0 && i >= noReturn;
    const last = i === steps.length - 1 ? [at('after', true)] : [];
    return [at('before', passed), at('effect', effected), ...last];
  });
}
