/** A second signal within this time is the same Ctrl-C, sent to the group and passed on by npm once more. */
const sameSignalMs = 1_000;

/** Resolves at the first SIGINT or SIGTERM. A later one, meant as "now", ends the process without a clean-up. */
export function untilToldToStop(): Promise<void> {
  return new Promise((resolve) => {
    let firstAtMs: number | null = null;
    const onSignal = (): void => {
      firstAtMs ??= performance.now();
      if (performance.now() - firstAtMs > sameSignalMs) process.exit(130);
      resolve();
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
}
