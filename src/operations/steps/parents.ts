import type { TableRecord } from '../../catalog/model.ts';
import { connectedNodes } from '../../catalog/view.ts';
import type { StepContext } from '../operation.ts';

/**
 * A node that is away would bring its copy back; this waits for it, and says so, when those that answer have
 * lost theirs: the drop of a node needs that no hinge leads there.
 */
export async function dropParents(c: StepContext<unknown>, table: TableRecord): Promise<void> {
  const nodes = connectedNodes(c.view).sort((a, b) => Number(c.alive(b.id)) - Number(c.alive(a.id)));
  for (const { id } of nodes) await c.plane.parents.drop(id, table);
}
