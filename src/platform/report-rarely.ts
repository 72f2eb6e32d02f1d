import { Outage } from '../shared/refusal.ts';

/** `untold`: how many errors of the outage have been kept back since the last one that was told. */
export type Report = (error: Error, untold: number) => void;

const firstPauseMs = 1_000;
const longestPauseMs = 60_000;

/**
 * Returns what passes errors on to `report`, those of an outage ({@link Outage}, itself or as a cause) ever more
 * rarely while they keep coming: all that polls fails with them, many times a second. `nowMs` is a monotonic clock.
 */
export function reportRarely(report: Report, nowMs: () => number = () => performance.now()): (error: Error) => void {
  let pauseMs = firstPauseMs;
  let pauseEndsAtMs = Number.NEGATIVE_INFINITY;
  let untold = 0;
  return (error) => {
    if (!isOfOutage(error)) return report(error, 0);
    const atMs = nowMs();
    if (atMs < pauseEndsAtMs) {
      untold++;
      return;
    }
    const isAnotherOutage = atMs > pauseEndsAtMs + pauseMs;
    pauseMs = isAnotherOutage ? firstPauseMs : Math.min(2 * pauseMs, longestPauseMs);
    pauseEndsAtMs = atMs + pauseMs;
    report(error, untold);
    untold = 0;
  };
}

function isOfOutage(error: unknown): boolean {
  return error instanceof Error && (error instanceof Outage || isOfOutage(error.cause));
}
