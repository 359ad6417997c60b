import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';

afterEach(() => {
  vi.useRealTimers();
});

test('the clock of a process goes on at its pace when the system clock is set', () => {
  const beganMs = systemClock.nowMs();
  expect(Math.abs(beganMs - Date.now())).toBeLessThan(5_000);
  vi.useFakeTimers({ toFake: ['Date'] });
  for (const hours of [-1, 1, 1_000]) {
    vi.setSystemTime(beganMs + hours * 3_600_000);
    const elapsedMs = systemClock.nowMs() - beganMs;
    expect(elapsedMs).toBeGreaterThanOrEqual(0);
    expect(elapsedMs).toBeLessThan(5_000);
  }
});
