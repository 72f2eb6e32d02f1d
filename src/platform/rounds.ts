/** Something that is to be done every so often. */
export type Round = Readonly<{ everyMs: number; run: () => Promise<void> }>;

/**
 * Runs each of `rounds` again and again, first at once, never beside itself. Returns how to stop, which waits for those
 * that are under way.
 */
export function startRounds(rounds: readonly Round[], onError: (error: Error) => void): () => Promise<void> {
  const underWay = new Map<Round, Promise<void>>();
  const go = (round: Round): void => {
    if (underWay.has(round)) return;
    const done = round
      .run()
      .catch(onError)
      .finally(() => underWay.delete(round));
    underWay.set(round, done);
  };
  const timers = rounds.map((round) => setInterval(() => go(round), round.everyMs));
  for (const round of rounds) go(round);
  return async () => {
    for (const timer of timers) clearInterval(timer);
    await Promise.all(underWay.values());
  };
}
