/** What a process of the benchmark is told, and answers, over its IPC channel: one question at a time. */
export type ServerSetup = Readonly<{
  databaseUrl: string;
  /** Whether the gateway writes its journal, as the simulated one does. */
  journals: boolean;
  fanOut: 'postgres' | 'in_process';
  role: 'all' | 'web';
}>;

export type MemoryQuestion = Readonly<{ asksForMemory: true }>;
export type Memory = Readonly<{ rssBytes: number }>;

/** To subscribe to the outcomes of these baskets, each over a socket of its own. */
export type SubscribersSetup = Readonly<{ port: number; tokens: readonly string[] }>;
/** To wait until each has been told so many times. */
export type ArrivalsQuestion = Readonly<{ messages: number }>;

/** The events that subscribers were told of, each with when its message had come: Unix time in milliseconds. */
export type Arrivals = Readonly<{ arrivals: ReadonlyArray<readonly [eventId: string, atMs: number]> }>;

export type DirectQuestion = Readonly<{
  /** Basket tokens, one for each order. */
  tokens: readonly string[];
  /** Checkouts under way at the same time. */
  callers: number;
}>;

export type DirectSetup = Readonly<{
  databaseUrl: string;
  strategy: 'batched' | 'pessimistic';
  /** Connections of the pool that reserves one by one. */
  connections: number;
  /** Whether orders are also paid and settled. */
  works: boolean;
}>;

export type LoadQuestion = Readonly<{
  port: number;
  connections: number;
  /** A crowd sends as fast as it is answered (closed loop), or at this rate whatever the answers (open loop). */
  perSecond: number | null;
  /** Journeys put this product into a new basket first; null: baskets are given. */
  journeyProductId: string | null;
  /** Basket tokens, one for each checkout; only their number counts for journeys. */
  tokens: readonly string[];
}>;

export type Latency = Readonly<{ p50: number; p90: number; p99: number; max: number }>;

export type LoadAnswer = Readonly<{
  seconds: number;
  /** Of checkouts, and of what kept a journey from coming to one. */
  answersByStatus: Readonly<Record<string, number>>;
  /** Of the 202s, from when each was meant to be sent. */
  latencyMs: Latency;
  /** How late the generator itself was: from when a request was meant to be sent to when it was. */
  lateMs: Latency;
  cpuSeconds: number;
}>;

export type DirectAnswer = Readonly<{ seconds: number; accepted: number; refused: number; latencyMs: Latency }>;

/** The percentiles of some durations, in the unit that they have. */
export function latencyOf(durations: number[]): Latency {
  const sorted = Float64Array.from(durations).sort();
  const at = (share: number): number => round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

function round(milliseconds: number | undefined): number {
  return milliseconds === undefined ? Number.NaN : Math.round(milliseconds * 10) / 10;
}
