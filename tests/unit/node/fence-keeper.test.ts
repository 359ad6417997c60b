import { afterEach, expect, test, vi } from 'vitest';
import { type FencedServer, FenceKeeper } from '../../../src/node/fence-keeper.ts';

/**
 * A server whose fence is a flag, as a file is one for the real one, and that takes it up when it is told to.
 */
class FakeServer implements FencedServer {
  processId: number | null = 7;
  isRaised = false;
  fenced = false;
  crashes = 0;
  fails = false;
  hold: Promise<void> = Promise.resolve();

  get letsIn(): boolean {
    return !this.fenced;
  }
  async isFenceRaised(): Promise<boolean> {
    return this.isRaised;
  }
  async fence(): Promise<void> {
    this.isRaised = true;
    await this.hold;
    if (this.fails) throw new Error('sessions do not end');
    this.fenced = true;
  }
  async unfence(): Promise<void> {
    this.isRaised = false;
    this.fenced = false;
  }
  crash(): void {
    this.crashes += 1;
    this.processId = null;
  }
}

const HELD = { leftMs: 5_000, graceMs: 5_000 };
const ANSWER = { fence: 'down' } as Parameters<FenceKeeper['obey']>[0];
let keeper: FenceKeeper;

function keep(server: FencedServer, lease: { leftMs: number; graceMs: number }) {
  const seen = { logged: [] as string[], changes: 0 };
  keeper = new FenceKeeper({
    server,
    lease: () => lease,
    onChange: () => {
      seen.changes += 1;
    },
    log: (_, message) => seen.logged.push(message),
  });
  keeper.start();
  return seen;
}

afterEach(() => keeper.end());

const until = (what: () => boolean) => vi.waitUntil(what, { timeout: 10_000, interval: 10 });

test('a fence that the watchdog has raised is seen through, logged and told like the process’s own', async () => {
  const server = new FakeServer();
  const seen = keep(server, HELD);
  server.isRaised = true;
  await until(() => seen.changes === 1);
  expect(server.fenced).toBe(true);
  expect(seen.logged).toEqual(['PostgreSQL is fenced']);
});

test('it is not lowered while it is being taken up', async () => {
  const server = new FakeServer();
  let release = () => {};
  server.hold = new Promise((resolve) => {
    release = resolve;
  });
  const seen = keep(server, HELD);
  const fence = vi.spyOn(server, 'fence');
  const unfence = vi.spyOn(server, 'unfence');
  server.isRaised = true;
  await until(() => fence.mock.calls.length === 1);
  vi.spyOn(server, 'letsIn', 'get').mockReturnValue(false);
  keeper.obey(ANSWER, 7);
  expect(unfence).not.toHaveBeenCalled();
  release();
  await until(() => seen.changes === 1);
  expect(server.fenced).toBe(true);
});

test('a server that does not take up the watchdog’s fence is ended', async () => {
  const server = new FakeServer();
  server.fails = true;
  const seen = keep(server, HELD);
  server.isRaised = true;
  await until(() => seen.changes === 1);
  expect(server.crashes).toBe(1);
});

test('without a lease the fence goes up by itself', async () => {
  const server = new FakeServer();
  const seen = keep(server, { leftMs: 0, graceMs: 0 });
  await until(() => seen.changes === 1);
  expect([server.isRaised, server.fenced]).toEqual([true, true]);
});
