import { entry } from './entry.ts';

/** Errors of calling: wrong arguments, nobody answers, no manager. */
export const apiErrors = {
  BAD_REQUEST: entry<{ what: string; why: string }>({
    retry: 'never',
    sqlstate: '22023',
    text: (d) => `${d.what}: ${d.why}`,
    hint: () => 'see the help of the command (--help) for what it takes',
  }),
  UNREACHABLE: entry<{ address: string; why: string }>({
    retry: 'later',
    sqlstate: '08001',
    text: (d) => `no pgtide node answers at ${d.address}: ${d.why}`,
    hint: () => 'check that the node runs, and name the listen address of a live node with --host=HOST:PORT',
  }),
  NOT_PGTIDE: entry<{ address: string; status: number }>({
    retry: 'never',
    sqlstate: '08P01',
    text: (d) => `what answers at ${d.address} is not a pgtide node (HTTP status ${d.status})`,
    hint: () => 'name the --listen-addr or --http-addr of a node',
  }),
  NO_MANAGER: entry<{ manager: string; why: string }>({
    retry: 'later',
    sqlstate: '57P03',
    text: (d) => `the manager at ${d.manager} does not answer: ${d.why}`,
    hint: () => 'data is still served; start the node that holds the meta store, and repeat the command',
  }),
  INTERNAL: entry<{ why: string }>({
    retry: 'later',
    sqlstate: 'XX000',
    text: (d) => `unexpected failure: ${d.why}`,
    hint: () => "this is a defect of pgtide; the node's log has the stack",
  }),
};
