import type { Command } from 'commander';
import type { SettingRow } from '../../api/results.ts';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { columns } from '../output.ts';

const shape = columns<SettingRow>('key', 'value', 'default', 'description');

/** `tide settings …` */
export function addSettings(program: Command, run: CliRun): void {
  const settings = program.command('settings').description("look at the cluster's settings and change them");
  const ls = defineClient(settings, {
    usage: 'ls',
    summary: 'all settings with their values and defaults',
    examples: ['tide settings ls'],
  });
  onClient(run, ls, async ({ session }) => {
    session.show(await session.call({ do: 'setting-ls' }), shape);
    return 0;
  });
  const set = defineClient(settings, {
    usage: 'set <key> <value>',
    summary: 'change a setting for the whole cluster, at once',
    examples: ['tide settings set rebalance.auto off', 'tide settings set move.max_pause 100'],
  });
  onClient<object, [key: string, value: string]>(run, set, async ({ session, args: [key, value] }) => {
    const now = await session.call({ do: 'setting-set', key, value });
    session.show([now], shape, now);
    return 0;
  });
}
