import { hash } from 'node:crypto';
import type { FaultRates, GatewayFault } from '../../shared/gateway-faults.ts';

type CallName = 'authorize' | 'capture' | 'void' | 'refund' | 'lookup' | 'list';

/** One call to the gateway. Calls under one key are told apart by their names: a look-up asks under another's key. */
export type Call = Readonly<{
  name: CallName;
  key: string;
  /** Of those that name one: the others know only the faults that come by chance. */
  paymentToken?: string | null;
}>;

export type TokenFault = Readonly<{
  fault: GatewayFault;
  calls: readonly CallName[];
  /** Whether it befalls only the first call under each key, or every one. */
  which: 'first' | 'every';
}>;

const payment = ['authorize', 'capture', 'void'] as const;

/** Test tokens and what befalls the calls that name them. Every other token is approved. */
export const tokenFaults: ReadonlyMap<string, TokenFault> = new Map([
  ['tok_fail', { fault: 'decline', calls: ['authorize'], which: 'every' }],
  ['tok_failure', { fault: 'decline', calls: ['authorize'], which: 'every' }],
  ['tok_capture_refused', { fault: 'capture_refused', calls: ['capture'], which: 'every' }],
  ['tok_slow', { fault: 'slow', calls: payment, which: 'every' }],
  ['tok_very_slow', { fault: 'very_slow', calls: payment, which: 'every' }],
  ['tok_late_request', { fault: 'late_request', calls: ['authorize'], which: 'first' }],
  ['tok_late_capture', { fault: 'late_request', calls: ['capture'], which: 'first' }],
  ['tok_lost_request', { fault: 'lost_request', calls: payment, which: 'first' }],
  ['tok_lost_answer', { fault: 'lost_answer', calls: payment, which: 'first' }],
  ['tok_error', { fault: 'error', calls: payment, which: 'first' }],
  ['tok_rate_limited', { fault: 'rate_limited', calls: payment, which: 'first' }],
  ['tok_reset', { fault: 'reset', calls: payment, which: 'first' }],
  ['tok_unreachable', { fault: 'lost_request', calls: payment, which: 'every' }],
  ['tok_authorize_unreachable', { fault: 'lost_request', calls: ['authorize'], which: 'every' }],
  ['tok_broken_answer', { fault: 'broken_answer', calls: ['authorize', 'capture'], which: 'every' }],
]);

/** The fault that a call's token asks for. `number` counts the calls of its name under its key, from 1. */
export function faultOfToken({ name, paymentToken }: Call, number: number): GatewayFault | undefined {
  const entry = paymentToken ? tokenFaults.get(paymentToken) : undefined;
  if (!entry?.calls.includes(name)) return undefined;
  return entry.which === 'every' || number === 1 ? entry.fault : undefined;
}

/** The faults that befall a call by chance: the same ones whenever the same call is made under the same seed. */
export function faultsByChance(rates: FaultRates, seed: number, { name, key }: Call, number: number): GatewayFault[] {
  return [...rates]
    .filter(([fault, rate]) => fractionOf(`${seed} ${fault} ${name} ${number} ${key}`) < rate)
    .map(([fault]) => fault);
}

const fractionDigits = 12;

/** A number from 0 to below 1 that tells nothing of the text but is the same for the same text. */
function fractionOf(text: string): number {
  return Number.parseInt(hash('sha256', text).slice(0, fractionDigits), 16) / 16 ** fractionDigits;
}
