import type { ClusterView } from '../../../../src/catalog/model.ts';
import { defaultSettings } from '../../../../src/catalog/settings.ts';

/** A cluster that nothing has happened to. */
export const EMPTY_VIEW: ClusterView = {
  revision: 0,
  clusterId: 'test',
  startMode: 'start',
  nodes: new Map(),
  tables: new Map(),
  settings: defaultSettings(),
};
