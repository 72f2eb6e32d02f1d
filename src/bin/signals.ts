/** A second signal within this time is the same Ctrl-C, sent to the group and passed on by npm once more. */
const sameSignalMs = 1_000;

/** Aborted by the first SIGINT or SIGTERM. A later one, meant as "now", ends the process without a clean-up. */
export function listenForStop(): AbortSignal {
  const controller = new AbortController();
  let firstAtMs: number | null = null;
  const onSignal = (): void => {
    firstAtMs ??= performance.now();
    if (performance.now() - firstAtMs > sameSignalMs) leaveAtOnce();
    controller.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return controller.signal;
}

function leaveAtOnce(): never {
  console.error('Left at once. An embedded PostgreSQL runs on until the next command takes it over and stops it.');
  process.exit(130);
}
