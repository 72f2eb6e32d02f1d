import { setTimeout as sleep } from 'node:timers/promises';

const pollMs = 20;

/** For what comes within seconds where nothing else runs. */
const patienceMs = 60_000;

/** Asks until `check` answers with something, for up to `timeoutMs`: as long as a busy machine may need. */
export async function eventually<T>(check: () => T | Promise<T>, timeoutMs = patienceMs): Promise<Exclude<T, Nothing>> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const found = await check();
    if (found) return found as Exclude<T, Nothing>;
    if (performance.now() > deadlineMs) throw new Error(`Not so within ${timeoutMs} ms: ${check}`);
    await sleep(pollMs);
  }
}

type Nothing = null | undefined | false;
