import type { CliHost, CliStream } from './host.ts';

/**
 * What a terminal would act on instead of showing it: control characters, but for the end of a line and the
 * tabulator, and those that turn the direction of writing. Names, statements and messages that others have
 * chosen may hold them.
 */
const CONTROL =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for.
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]|\r(?!\n)/g;

/** Shows them as JSON writes them: what is JSON already stays so. */
function printable(text: string): string {
  return text.replace(CONTROL, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A host whose streams show what they are given, and do nothing that it says. */
export function withPrintableOutput(host: CliHost): CliHost {
  return {
    startNode: (options) => host.startNode(options),
    runDemo: (options) => host.runDemo(options),
    openSql: (address, onNotice) => host.openSql(address, onNotice),
    runPsql: (connection) => host.runPsql(connection),
    stdout: printableOutput(host.stdout),
    stderr: printableOutput(host.stderr),
    env: host.env,
    now: () => host.now(),
    sleep: (ms) => host.sleep(ms),
    readStdin: () => host.readStdin(),
    canAsk: host.canAsk,
    readLine: () => host.readLine(),
    readLines: () => host.readLines(),
    onInterrupt: (handler) => host.onInterrupt(handler),
  };
}

function printableOutput(stream: CliStream): CliStream {
  return {
    write: (text) => stream.write(printable(text)),
    control: (sequence) => stream.write(sequence),
    get isTTY() {
      return stream.isTTY;
    },
    get columns() {
      return stream.columns;
    },
  };
}
