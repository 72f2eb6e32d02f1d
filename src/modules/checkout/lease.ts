import { hostname } from 'node:os';
import type { Reader } from '../../platform/db.ts';
import { newId } from '../../shared/ids.ts';
import { type Owner, registerWorker, releaseLease, renewLease } from './lease.sql.ts';

const leaseSeconds = 10;
const renewEveryMs = 2_000;
/** The holder gives up this much before the database does, so that it never acts on a lease that is gone. */
const safetyMs = 2_000;

/** A worker's title to the orders it owns. */
export interface Lease {
  /** Under which worker and epoch orders are owned now; null while there is no lease. */
  owner(): Owner | null;
  /** Whether `owner` is the holder of the present lease. */
  isHeldBy(owner: Owner): boolean;
  /** Gives it up, for good: from now on nothing is owned under it. */
  release(): Promise<void>;
}

/**
 * Takes a lease on `db` and renews it every 2 s. Lost (the database away for too long, the process stalled), it is
 * taken anew under another epoch: whatever was owned under the old one belongs to whoever claims it.
 */
export async function takeLease(db: Reader, onError: (error: Error) => void): Promise<Lease> {
  const worker = { id: newId(), leaseSeconds, host: hostname(), pid: process.pid };
  let held = await takeAnew(db, worker);
  let isReleased = false;
  const timer = setInterval(async () => {
    const kept = await keep(db, worker, held, () => isReleased).catch((error: Error) => {
      onError(error);
      return held;
    });
    // A slow database answers several questions at once, and not in order: the latest of them counts.
    if (kept.untilMs > held.untilMs) held = kept;
  }, renewEveryMs);

  const owner = (): Owner | null => (!isReleased && performance.now() < held.untilMs ? held.owner : null);
  return {
    owner,
    isHeldBy: (other) => owner()?.epoch === other.epoch,
    release: async () => {
      isReleased = true;
      clearInterval(timer);
      await releaseLease(db, held.owner);
    },
  };
}

type Held = { owner: Owner /** On this process's own monotonic clock. */; untilMs: number };
type Worker = Parameters<typeof registerWorker>[1];

async function takeAnew(db: Reader, worker: Worker): Promise<Held> {
  const askedAtMs = performance.now();
  const epoch = await registerWorker(db, worker);
  return { owner: { workerId: worker.id, epoch }, untilMs: endOf(askedAtMs) };
}

async function keep(db: Reader, worker: Worker, held: Held, isReleased: () => boolean): Promise<Held> {
  const askedAtMs = performance.now();
  const isRenewed = await renewLease(db, held.owner, leaseSeconds);
  if (isRenewed) return { owner: held.owner, untilMs: endOf(askedAtMs) };
  return isReleased() ? held : takeAnew(db, worker);
}

/** Counted from before the question was sent: the database cannot have started later than it received it. */
function endOf(askedAtMs: number): number {
  return askedAtMs + leaseSeconds * 1_000 - safetyMs;
}
