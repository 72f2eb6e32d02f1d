import { setTimeout as sleep } from 'node:timers/promises';

const pollMs = 20;

/** Asks until `check` answers with something, for up to `timeoutMs`. */
export async function eventually<T>(check: () => T | Promise<T>, timeoutMs = 15_000): Promise<Exclude<T, Nothing>> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const found = await check();
    if (found) return found as Exclude<T, Nothing>;
    if (performance.now() > deadlineMs) throw new Error(`Not so within ${timeoutMs} ms: ${check}`);
    await sleep(pollMs);
  }
}

type Nothing = null | undefined | false;
