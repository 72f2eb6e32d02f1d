import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';

const retryMs = 20;
const quietWaitMs = 1_000;
/** Longer than a start or a stop may take, so that it is only reached when somebody hangs. */
const patienceMs = 400_000;
const sqliteBusy = 5;

/**
 * Runs `work` while no other process (nor another call in this one) holds the lock of `file`.
 * It is a lock of the operating system, which Node reaches through SQLite: whoever dies holding it, even by SIGKILL,
 * has let go of it, so there is no stale lock to detect and no race in breaking one.
 */
export async function withLock<T>(file: string, onWait: () => void, work: () => Promise<T>): Promise<T> {
  const lock = new DatabaseSync(file, { timeout: 0 });
  try {
    await take(lock, file, onWait);
    return await work();
  } finally {
    lock.close();
  }
}

async function take(lock: DatabaseSync, file: string, onWait: () => void): Promise<void> {
  const startedMs = performance.now();
  let told = false;
  while (!tryTake(lock)) {
    const waitedMs = performance.now() - startedMs;
    if (waitedMs > patienceMs) throw new Error(`Another process has held ${file} for ${patienceMs / 1_000} s`);
    if (waitedMs > quietWaitMs && !told) {
      onWait();
      told = true;
    }
    await sleep(retryMs);
  }
}

function tryTake(lock: DatabaseSync): boolean {
  try {
    lock.exec('BEGIN EXCLUSIVE');
    return true;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === sqliteBusy) return false;
    throw error;
  }
}
