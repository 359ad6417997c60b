import { exitWhenWritten, processHost } from './cli/host.ts';
import { runCli } from './cli/main.ts';

/**
 * The command line. What runs a node or the demo is loaded for these commands only: all others are to answer
 * at once.
 */
const host = processHost({
  startNode: async (options) => (await import('./adapters.ts')).startNode(options),
  openSql: async (address, onNotice) => (await import('./cli/sql/connection.ts')).openSql(address, onNotice),
  runDemo: async (options) => (await import('./demo/demo.ts')).runDemo(options),
});

exitWhenWritten(await runCli(process.argv.slice(2), host));
