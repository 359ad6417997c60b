/**
 * How late this machine is with what is due, at its worst: milliseconds, since this file was loaded. On a
 * busy one whatever is bounded by the clock is late as well, and how late says nothing of pgtide.
 */
export const machine = { longestDelayMs: 0 };

const EVERY_MS = 10;
let dueMs = performance.now() + EVERY_MS;
setInterval(() => {
  const nowMs = performance.now();
  machine.longestDelayMs = Math.max(machine.longestDelayMs, nowMs - dueMs);
  dueMs = nowMs + EVERY_MS;
}, EVERY_MS).unref();
