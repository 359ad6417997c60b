import { entry } from './entry.ts';

/** Refusals of the preflight and of the cluster's own rules. */
export const clusterErrors = {
  NODE_UNKNOWN: entry<{ node: string; known: string }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `node ${d.node} does not exist (this cluster has ${d.known})`,
    hint: () => 'tide node status lists the nodes',
  }),
};
