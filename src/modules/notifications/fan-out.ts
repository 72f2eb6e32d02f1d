import type { OutcomeEvent } from './outcome-streams.ts';

/** What a fan-out tells this process. */
export type FanOutListener = Readonly<{
  /** Events that others say are committed: in any order, more than once, or never; also such as never happened. */
  onEvents: (events: readonly OutcomeEvent[]) => void;
  /** Events may have passed unheard until now; from now on those that are published are heard. */
  onGap: () => void;
}>;

/** Figures since the process began; `isListening` is null where nobody is listened to. */
export type FanOutFigures = Readonly<{
  published: number;
  received: number;
  dropped: number;
  isListening: boolean | null;
}>;

/**
 * How the processes of a shop tell each other of committed events. It makes outcomes fast and nothing more: it may lose
 * or invent any of them, for each process tells its watchers only what it finds in the table (`missed-events.ts`).
 */
export type FanOut = Readonly<{
  /** Takes a committed event to the other processes, some time after it returns. Never waits and never throws. */
  publish: (event: OutcomeEvent) => void;
  /** Tells `listener` of what other processes publish, until {@link close}. */
  listen: (listener: FanOutListener) => void;
  figures: () => FanOutFigures;
  /** Returns when what was published is on its way, or has been given up. */
  close: () => Promise<void>;
}>;

/** For a process that is alone, or whose outcomes the others may find in the table. */
export const inProcessFanOut: FanOut = {
  publish: () => undefined,
  listen: () => undefined,
  figures: () => ({ published: 0, received: 0, dropped: 0, isListening: null }),
  close: async () => undefined,
};
