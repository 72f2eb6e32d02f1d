/** A second signal within this time is the same Ctrl-C, sent to the group and passed on by npm once more. */
const sameSignalMs = 1_000;

/** Ctrl-C or a request to terminate, as a command hears of it. */
export type Interruption = Readonly<{
  /** Aborted by the first signal; a later one ends the process at once. */
  signal: AbortSignal;
  /** The exit status that tells of the signal. */
  status: () => number | null;
  stopListening: () => void;
}>;

const statusBySignal = { SIGINT: 130, SIGTERM: 143 } as const;

/** Starts to listen for signals, so that a command can end where it does no harm. */
export function listenForInterruption(): Interruption {
  const controller = new AbortController();
  let status: number | null = null;
  let firstAtMs: number | null = null;
  const onSignal = (name: 'SIGINT' | 'SIGTERM'): void => {
    firstAtMs ??= performance.now();
    if (performance.now() - firstAtMs > sameSignalMs) process.exit(statusBySignal[name]);
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
