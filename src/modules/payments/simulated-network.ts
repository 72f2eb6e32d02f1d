import type { FaultRates, GatewayFault } from '../../shared/gateway-faults.ts';
import { GatewayUnanswered } from './payments.service.ts';
import { type Call, faultOfToken, faultsByChance, tokenFaults } from './simulated-faults.ts';

export type NetworkOptions = Readonly<{
  /** What a call takes: half of it passes before it takes effect, half after. */
  latencyMs: number;
  rates: FaultRates;
  /** Chooses which calls `rates` hit. */
  seed: number;
}>;

type Faults = ReadonlySet<GatewayFault>;

/** All that lies between the shop and the simulated gateway, and what befalls calls there. */
export type Network = Readonly<{
  /** Lets `effect` happen as often, as late and as visibly as the faults of this call let it. */
  carry<T>(call: Call, effect: (faults: Faults) => Promise<T>): Promise<T>;
  /** Calls that are still on their way, or whose answers are, are {@link GatewayUnanswered}. */
  close(): void;
}>;

const slowMs = 3_000;
const verySlowMs = 30_000;
/** Longer than a caller waits, even if it then looks the call up or voids it. */
const lateMs = 12_000;
const countedKeys = 100_000;
const noFaults: Faults = new Set();

/** What is thrown instead of an answer, before anything has happened. */
const refusals: ReadonlyArray<readonly [GatewayFault, () => Error]> = [
  ['error', () => new GatewayUnanswered('The gateway answered 500 Internal Server Error')],
  ['rate_limited', () => new GatewayUnanswered('The gateway answered 429 Too Many Requests')],
  ['broken_answer', () => new Error('The gateway answered with something that cannot be read')],
];

/** Opens the way to the simulated gateway. */
export function openNetwork(options: NetworkOptions): Network {
  const { latencyMs, rates, seed } = options;
  const timers = openTimers();
  const numberOf = countCalls(countedKeys);
  const faultsOf = (call: Call): Faults => {
    if (rates.size === 0 && !(call.paymentToken && tokenFaults.has(call.paymentToken))) return noFaults;
    const number = numberOf(`${call.name} ${call.key}`);
    const byToken = faultOfToken(call, number);
    return new Set([...(byToken ? [byToken] : []), ...faultsByChance(rates, seed, call, number)]);
  };
  return {
    carry: (call, effect) => {
      const faults = faultsOf(call);
      if (latencyMs === 0 && faults.size === 0) return effect(faults);
      return carryThrough(faults, latencyMs, timers.pass, effect);
    },
    close: timers.close,
  };
}

async function carryThrough<T>(
  faults: Faults,
  latencyMs: number,
  pass: (ms: number) => Promise<void>,
  effect: (faults: Faults) => Promise<T>,
): Promise<T> {
  const eachWayMs = (latencyMs + (faults.has('slow') ? slowMs : 0) + (faults.has('very_slow') ? verySlowMs : 0)) / 2;
  await pass(eachWayMs + (faults.has('late_request') ? lateMs : 0));
  if (faults.has('lost_request')) return never();
  for (const [fault, refusal] of refusals) if (faults.has(fault)) throw refusal();
  const answer = await effect(faults);
  await pass(eachWayMs);
  if (faults.has('reset')) throw new GatewayUnanswered('The gateway reset the connection');
  return faults.has('lost_answer') ? never() : answer;
}

/** Nobody holds on to it, so it goes when its caller has given it up. */
function never<T>(): Promise<T> {
  return new Promise(() => undefined);
}

/** Times that pass unless it is closed before. */
function openTimers() {
  const pending = new Map<NodeJS.Timeout, (error: Error) => void>();
  let isClosed = false;
  const pass = (ms: number): Promise<void> =>
    new Promise((resolve, reject) => {
      if (ms === 0) return resolve();
      if (isClosed) return reject(closedMeanwhile());
      const timer = setTimeout(() => {
        pending.delete(timer);
        resolve();
      }, ms);
      pending.set(timer, reject);
    });
  const close = (): void => {
    isClosed = true;
    for (const [timer, reject] of pending) {
      clearTimeout(timer);
      reject(closedMeanwhile());
    }
    pending.clear();
  };
  return { pass, close };
}

function closedMeanwhile(): GatewayUnanswered {
  return new GatewayUnanswered('The gateway was closed before it answered');
}

/** Numbers the calls of each key from 1. Forgets the keys longest unused beyond `most`. */
function countCalls(most: number): (key: string) => number {
  const counts = new Map<string, number>();
  return (key) => {
    const number = (counts.get(key) ?? 0) + 1;
    counts.delete(key);
    counts.set(key, number);
    if (counts.size > most) counts.delete(oldestOf(counts));
    return number;
  };
}

function oldestOf(counts: ReadonlyMap<string, number>): string {
  const [key = ''] = counts.keys();
  return key;
}
