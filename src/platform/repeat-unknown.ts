import { setTimeout as sleep } from 'node:timers/promises';
import { Unavailable } from '../shared/refusal.ts';
import { CommitUnknown } from './db.ts';

const firstPauseMs = 10;
const longestPauseMs = 250;

/**
 * Runs a transaction, and after a COMMIT whose answer was lost runs it again until it is known what came of it. For up
 * to `forMs` after the loss a repeat is begun, also while the database is unavailable in between. `run` must do the
 * same under the same ids, and in a repeat recognise what the lost COMMIT has already done. Throws
 * {@link CommitUnknown} when that stays unknown: from then on no other error can say that nothing was taken.
 */
export async function repeatWhileUnknown<T>(run: (isRepeat: boolean) => Promise<T>, forMs: number): Promise<T> {
  try {
    return await run(false);
  } catch (error) {
    if (!(error instanceof CommitUnknown)) throw error;
    return findOut(run, error, performance.now() + forMs);
  }
}

async function findOut<T>(run: (isRepeat: boolean) => Promise<T>, lost: CommitUnknown, untilMs: number): Promise<T> {
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    await sleep(pauseMs);
    try {
      return await run(true);
    } catch (error) {
      if (!mayPass(error)) throw stillUnknown(error);
      if (performance.now() + pauseMs > untilMs) throw lost;
    }
  }
}

function mayPass(error: unknown): boolean {
  return error instanceof CommitUnknown || error instanceof Unavailable;
}

function stillUnknown(cause: unknown): CommitUnknown {
  return new CommitUnknown(cause);
}
