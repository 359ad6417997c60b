import type { OperationId } from '../catalog/model.ts';
import { type Asking, toldPlane } from './asking.ts';
import { hasEnded } from './machine.ts';
import type { Claim, OperationRecord, PauseRecord, StepContext } from './operation.ts';
import type { Progress } from './progress.ts';
import type { QuorumKeeper } from './quorum-keeper.ts';
import type { RunnerPorts } from './runner-ports.ts';

/** The runner, as the steps of its operations may use it. */
export interface ContextHost {
  readonly ports: RunnerPorts;
  readonly progress: Progress;
  readonly quorums: QuorumKeeper;
  record(id: OperationId): OperationRecord;
  all(): OperationRecord[];
  update(id: OperationId, edit: (record: OperationRecord) => OperationRecord): Promise<OperationRecord>;
  submit(kind: string, input: object, parent: OperationId): Promise<OperationRecord>;
  cancel(id: OperationId): Promise<OperationRecord>;
}

/** What the steps of an operation see of the world. It stays the same for as long as the operation runs. */
export function contextOf(host: ContextHost, id: OperationId): StepContext<unknown> {
  const { ports, progress } = host;
  const asking: Asking = (question, ask) => progress.asking(id, question, ask);
  const change = async (edit: (record: OperationRecord) => OperationRecord) => {
    await host.update(id, edit);
  };
  const children = () => host.all().filter((r) => r.parent === id);
  // It may have ended, or passed its point of no return, since it was looked at.
  const cancel = async (other: OperationId) => {
    await host.cancel(other).catch(() => {});
  };
  return {
    id,
    input: host.record(id).input,
    get data() {
      return host.record(id).data;
    },
    get view() {
      return ports.view();
    },
    get load() {
      return ports.load();
    },
    plane: toldPlane(ports.plane, asking),
    clock: ports.clock,
    random: ports.random,
    alive: (node) => ports.alive(node),
    copyFailure: (from, to, ref) => ports.copyFailure(from, to, ref),
    commit: (...changes) => ports.commit(changes),
    remember: (facts: object) => change((r) => ({ ...r, data: { ...r.data, ...facts } })),
    claim: (...claims) => change((r) => ({ ...r, claims: mergeClaims(r.claims, claims) })),
    progress: (bytesDone, bytesTotal) => progress.count(id, bytesDone, bytesTotal),
    moves: (seen, left) => progress.estimate(id, seen, left),
    pause: (pause) =>
      change((r) => ({ ...r, pauses: keepPauses([...r.pauses, { ...pause, atMs: ports.clock.nowMs() }]) })),
    children,
    running: () => host.all().filter((r) => r.id !== id && !hasEnded(r)),
    start: async (kind, input) => (await host.submit(kind, input, id)).id,
    cancelChildren: async () => {
      for (const child of children().filter((r) => !hasEnded(r) && !r.passedNoReturn)) await cancel(child.id);
    },
    cancel,
    settleQuorum: (node) => asking({ what: 'quorum: settle', nodes: [node] }, () => host.quorums.settle(node)),
    event: (kind, text, node) => ports.event({ kind, text, operation: id, ...(node === undefined ? {} : { node }) }),
  };
}

function mergeClaims(have: readonly Claim[], more: readonly Claim[]): Claim[] {
  const known = new Set(have.map((c) => JSON.stringify(c)));
  return [...have, ...more.filter((c) => !known.has(JSON.stringify(c)))];
}

const PAUSES_MAX = 1_000;

/** An operation that backs off for days keeps its newest pauses. */
function keepPauses(pauses: PauseRecord[]): PauseRecord[] {
  return pauses.slice(-PAUSES_MAX);
}
