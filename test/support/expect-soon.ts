import { expect } from 'vitest';

/** Expects of what `read` returns, as soon as it comes true: waits as long as a busy machine may need. */
export function expectSoon<T>(read: () => T) {
  return expect.poll(read, { timeout: 60_000, interval: 10 });
}
