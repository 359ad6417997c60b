import type { ManagerCommand } from '../../api/commands.ts';
import type { DoctorResult, Results, SettingRow } from '../../api/results.ts';
import type { Settings } from '../../catalog/model.ts';
import { parseSetting, SETTINGS, showSetting } from '../../catalog/settings.ts';
import { hasEnded } from '../../operations/machine.ts';
import { examine } from '../doctor.ts';
import { replicationFindings } from '../replication-faults.ts';
import { operationResult, operationRow, pauseRows } from '../rows.ts';
import type { CommandContext } from './context.ts';
import * as nodes from './nodes.ts';
import * as outages from './outages.ts';
import * as partitions from './partitions.ts';
import * as tables from './tables.ts';

/** One admin command, from its validated form to its result. Throws TideErrors. */
export async function runCommand(c: CommandContext, command: ManagerCommand): Promise<Results[ManagerCommand['do']]> {
  switch (command.do) {
    case 'node-status':
      return nodes.nodeStatus(c);
    case 'node-decommission':
      return nodes.decommission(c, command);
    case 'node-recommission':
      return nodes.recommission(c, command);
    case 'node-drain':
      return nodes.drain(c, command);
    case 'node-undrain':
      return nodes.undrain(c, command);
    case 'node-offline':
      return outages.offline(c, command.node);
    case 'node-recover':
      return outages.recover(c, command.node);
    case 'node-drop':
      return outages.drop(c, command);
    case 'scale-out':
      return nodes.scaleOut(c, command);
    case 'scale-in':
      return nodes.scaleIn(c, command);
    case 'plan':
      return nodes.planCommand(c, command);
    case 'table-create':
      return tables.createTable(c, command);
    case 'table-drop':
      return tables.dropTable(c, command.table);
    case 'table-ls':
      return tables.listTables(c);
    case 'partition-ls':
      return tables.listPartitions(c, command.table);
    case 'partition-migrate':
      return partitions.migrate(c, command);
    case 'partition-recover':
      return outages.recoverPartition(c, command);
    case 'partition-change-leader':
      return partitions.changeLeader(c, command);
    case 'partition-add-replica':
      return partitions.addReplica(c, command);
    case 'partition-del-replica':
      return partitions.delReplica(c, command);
    case 'op-ls':
      return listOperations(c, command.all);
    case 'op-show':
      return showOperation(c, command.id);
    case 'op-cancel':
      return operationRow(c.runner, await c.runner.cancel(command.id), c.clock.nowMs());
    case 'pause-ls':
      return pauseRows(c.runner, c.view);
    case 'events':
      return c.events.after(command.after, command.limit);
    case 'setting-ls':
      return Object.keys(SETTINGS).map((key) => settingRow(c.view.settings, key as keyof Settings));
    case 'setting-set':
      return setSetting(c, command.key, command.value);
    case 'manager-ls':
      return nodes.listManagers(c);
    case 'doctor':
      return doctor(c, command.fix);
  }
}

async function doctor(c: CommandContext, fix: boolean): Promise<DoctorResult> {
  const claims = () => c.runner.unended().flatMap((r) => r.claims);
  const { findings, unreachable } = await examine(() => c.view, c.inspector, claims, fix);
  const twins = [...c.view.nodes.keys()].flatMap((node) => {
    const twin = c.admissions.twinOf(node);
    return twin ? [{ node, address: twin.address }] : [];
  });
  return { findings: [...findings, ...replicationFindings(c.view, c.streams)], unreachable, twins };
}

/** Running ones and the last few that ended; `all`: everything that is kept. */
function listOperations(c: CommandContext, all: boolean) {
  const records = [...c.runner.all()].sort((a, b) => a.id - b.id);
  const shown = all ? records : [...records.filter(hasEnded).slice(-20), ...records.filter((r) => !hasEnded(r))];
  return shown.sort((a, b) => a.id - b.id).map((r) => operationRow(c.runner, r, c.clock.nowMs()));
}

function showOperation(c: CommandContext, id: number) {
  return operationResult(c.runner, c.view, c.runner.known(id), c.clock.nowMs());
}

function settingRow(settings: Settings, key: keyof Settings): SettingRow {
  const spec = SETTINGS[key];
  const value = showSetting(key, settings[key]);
  return { key, value, default: showSetting(key, spec.default), description: spec.description };
}

async function setSetting(c: CommandContext, key: string, value: string): Promise<SettingRow> {
  const parsed = parseSetting(key, value);
  await c.catalog.commit([{ kind: 'setting-changed', ...parsed }]);
  await c.events.add({ kind: 'setting-changed', text: `${parsed.key} = ${showSetting(parsed.key, parsed.value)}` });
  return settingRow(c.catalog.view.settings, parsed.key);
}
