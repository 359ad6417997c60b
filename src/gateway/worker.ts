import type { Socket } from 'node:net';
import { loadParser } from '../sql/parser.ts';
import { NodeWork } from './admin/node-work.ts';
import { DeadlockAnswers } from './deadlock-answers.ts';
import { Hellos } from './hellos.ts';
import type { FromWorker, ToWorker, Verdict } from './messages.ts';
import { PassThrough } from './pass-through.ts';
import { Routing } from './routing.ts';

/**
 * A process that serves clients' sessions: a node's process has several (`node/gateway-workers.ts`), gives
 * them the connections, and does not wait behind what clients send. Ends with the node's process.
 */
const answers = new DeadlockAnswers();
const hellos = new Hellos();
/** How many of them the node has. */
const workers = Number(process.argv[2] ?? 1);
const routing = new Routing(workers);
const asking = new Map<number, (verdict: Verdict) => void>();
let lastSession = 0;

const tell = (message: FromWorker) => process.connected && process.send?.(message);

const work = new NodeWork(tell);
const sessions = new PassThrough({
  answers,
  routing,
  work,
  onCancel: (key) => tell({ say: 'cancel', key }),
  admit: (who) => {
    lastSession += 1;
    const session = lastSession;
    const verdict = new Promise<Verdict>((resolve) => asking.set(session, resolve));
    tell({ say: 'asks', session, who });
    const ended = () => {
      asking.delete(session);
      tell({ say: 'ended', session });
    };
    return { verdict, ended };
  },
});

function take(socket: Socket | undefined, begun: Buffer): void {
  // It has gone on its way here.
  if (socket === undefined) return;
  socket.allowHalfOpen = true;
  socket.on('error', () => socket.destroy());
  socket.unshift(begun);
  sessions.receive(socket, hellos.add(socket));
}

async function end(graceMs: number): Promise<void> {
  hellos.close();
  await sessions.close(graceMs);
  process.exit(0);
}

process.on('message', (message: ToWorker, handle: unknown) => {
  switch (message.say) {
    case 'client':
      return take(handle as Socket | undefined, message.begun);
    case 'topology':
      return routing.useTopology(message.change);
    case 'cancel':
      return void sessions.cancel(Buffer.from(message.key));
    case 'verdict':
      asking.get(message.session)?.(message.verdict);
      asking.delete(message.session);
      return;
    case 'worked':
      return work.done(message.call, message.outcome);
    case 'expect-deadlock': {
      const { call, processId, detail } = message;
      return tell({ say: 'expects', call, found: answers.expect(processId, detail) });
    }
    case 'forget-deadlock':
      return answers.forget(message.processId);
    case 'end':
      return void end(message.graceMs);
  }
});
process.on('disconnect', () => process.exit(0));
process.umask(0o077);
// Signals to the node's terminal are not for this process: the node's own ends it.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
await loadParser();
tell({ say: 'ready' });
