/** A second signal within this time is the same Ctrl-C, sent to the group and passed on by npm once more. */
const sameSignalMs = 1_000;

/** Ctrl-C or a request to terminate, as a command hears of it. */
export type Interruption = Readonly<{
  /** Aborted by the first signal. */
  signal: AbortSignal;
  /** The exit status that tells of the first signal. */
  status: () => number | null;
  stopListening: () => void;
}>;

const statusBySignal = { SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Starts to listen for signals, so that a command can end where it does no harm. A later one, meant as "now", ends the
 * process without a clean-up, after `farewell`.
 */
export function listenForInterruption(farewell?: string): Interruption {
  const controller = new AbortController();
  let status: number | null = null;
  let firstAtMs: number | null = null;
  const onSignal = (name: 'SIGINT' | 'SIGTERM'): void => {
    firstAtMs ??= performance.now();
    if (performance.now() - firstAtMs > sameSignalMs) leaveAtOnce(statusBySignal[name], farewell);
    status ??= statusBySignal[name];
    controller.abort(new Error('stopped'));
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    status: () => status,
    stopListening: () => {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    },
  };
}

function leaveAtOnce(status: number, farewell: string | undefined): never {
  if (farewell !== undefined) console.error(farewell);
  process.exit(status);
}
