import type { Command } from 'commander';
import type { DoctorRow } from '../../api/results.ts';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { columns } from '../output.ts';

/**
 * `tide doctor`: exit status 1 where something is left over, cannot be replicated, or a node could not be
 * asked.
 */
export function addDoctor(program: Command, run: CliRun): void {
  const doctor = defineClient(program, {
    usage: 'doctor',
    summary:
      'find objects on the nodes that belong to no placement and no operation, and rows that cannot be replicated',
    examples: ['tide doctor', 'tide doctor --fix'],
  }).option('--fix', 'remove objects that belong to nobody');
  onClient<{ fix?: true }>(run, doctor, async ({ session, flags }) => {
    const { findings, unreachable, twins = [] } = await session.call({ do: 'doctor', fix: flags.fix ?? false });
    session.show(findings, columns<DoctorRow>('node', 'kind', 'name', 'why', 'fixed'), {
      findings,
      unreachable,
      twins,
    });
    for (const { node, address } of twins)
      session.warn(`node ${node} was started a second time, at ${address}, from a copy of its store, and refused`);
    for (const node of unreachable) session.warn(`node ${node.node} could not be asked: ${node.why}`);
    const left = findings.filter((finding) => !finding.fixed);
    const isFixable = left.some((finding) => finding.kind !== 'replication');
    if (isFixable && !flags.fix) session.warn('something is left over; tide doctor --fix removes it');
    return left.length > 0 || unreachable.length > 0 ? 1 : 0;
  });
}
