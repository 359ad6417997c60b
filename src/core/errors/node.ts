import { entry } from './entry.ts';

/** Errors of starting and running one node: flags, ports, store, PostgreSQL. */
export const nodeErrors = {
  PORT_IN_USE: entry<{ flag: string; address: string }>({
    retry: 'later',
    sqlstate: '58000',
    text: (d) => `${d.flag}: the address ${d.address} is in use by another process`,
    hint: (d) => `choose another port with ${d.flag}, or end the process that holds it`,
  }),
};
