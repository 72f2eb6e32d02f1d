import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FaultRates } from '../../shared/gateway-faults.ts';
import { GatewayUnanswered } from './payments.service.ts';
import type { Call } from './simulated-faults.ts';
import { openNetwork } from './simulated-network.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

type Seen = { effectAtMs: number | null; endAtMs: number | null; end: string };

function network({ latencyMs = 0, rates = new Map() as FaultRates } = {}) {
  const { carry, close } = openNetwork({ latencyMs, rates, seed: 1 });
  /** Makes a call and notes when it takes effect and how it ends, if it does. */
  const call = (made: Call): Seen => {
    const startMs = Date.now();
    const seen: Seen = { effectAtMs: null, endAtMs: null, end: 'pending' };
    const ended = (end: string): void => void Object.assign(seen, { end, endAtMs: Date.now() - startMs });
    carry(made, async (faults) => {
      seen.effectAtMs = Date.now() - startMs;
      return faults.has('decline') ? 'declined' : faults.has('capture_refused') ? 'refused' : 'done';
    }).then(ended, (error: Error) => ended(`${error.name}: ${error.message}`));
    return seen;
  };
  const callNow = async (made: Call): Promise<Seen> => {
    const seen = call(made);
    await vi.advanceTimersByTimeAsync(600_000);
    return seen;
  };
  return { call, callNow, close };
}

const at = (effectAtMs: number | null, endAtMs: number | null, end: string): Seen => ({ effectAtMs, endAtMs, end });
const done = at(0, 0, 'done');
const noAnswer = (effectAtMs: number | null) => at(effectAtMs, null, 'pending');
const error500 = at(null, 0, 'GatewayUnanswered: The gateway answered 500 Internal Server Error');
const error429 = at(null, 0, 'GatewayUnanswered: The gateway answered 429 Too Many Requests');
const reset = at(0, 0, 'GatewayUnanswered: The gateway reset the connection');
const broken = at(null, 0, 'Error: The gateway answered with something that cannot be read');
const slow = at(1_500, 3_000, 'done');
const verySlow = at(15_000, 30_000, 'done');
const late = at(12_000, 12_000, 'done');

/** What befalls the first and the second call under a key. */
type Twice = readonly [Seen, Seen];
const always = (seen: Seen): Twice => [seen, seen];
const once = (seen: Seen): Twice => [seen, done];
const fine = always(done);

const tokens: ReadonlyArray<readonly [string, Record<'authorize' | 'capture' | 'void', Twice>]> = [
  ['tok_success', { authorize: fine, capture: fine, void: fine }],
  ['tok_fail', { authorize: always(at(0, 0, 'declined')), capture: fine, void: fine }],
  ['tok_capture_refused', { authorize: fine, capture: always(at(0, 0, 'refused')), void: fine }],
  ['tok_slow', { authorize: always(slow), capture: always(slow), void: always(slow) }],
  ['tok_very_slow', { authorize: always(verySlow), capture: always(verySlow), void: always(verySlow) }],
  ['tok_late_request', { authorize: once(late), capture: fine, void: fine }],
  ['tok_late_capture', { authorize: fine, capture: once(late), void: fine }],
  ['tok_lost_request', { authorize: once(noAnswer(null)), capture: once(noAnswer(null)), void: once(noAnswer(null)) }],
  ['tok_lost_answer', { authorize: once(noAnswer(0)), capture: once(noAnswer(0)), void: once(noAnswer(0)) }],
  ['tok_error', { authorize: once(error500), capture: once(error500), void: once(error500) }],
  ['tok_rate_limited', { authorize: once(error429), capture: once(error429), void: once(error429) }],
  ['tok_reset', { authorize: once(reset), capture: once(reset), void: once(reset) }],
  [
    'tok_unreachable',
    { authorize: always(noAnswer(null)), capture: always(noAnswer(null)), void: always(noAnswer(null)) },
  ],
  ['tok_authorize_unreachable', { authorize: always(noAnswer(null)), capture: fine, void: fine }],
  ['tok_broken_answer', { authorize: always(broken), capture: always(broken), void: fine }],
];

describe('a call', () => {
  it.each(tokens)('with %s meets what its token asks for, under each key', async (paymentToken, expected) => {
    const { callNow } = network();
    for (const order of ['1', '2'])
      for (const name of ['authorize', 'capture', 'void'] as const) {
        const made = { name, key: `${order}:${name}`, paymentToken };
        expect([await callNow(made), await callNow(made)]).toEqual(expected[name]);
      }
  });

  it('takes the latency, half before its effect and half after', async () => {
    const { callNow } = network({ latencyMs: 250 });
    expect(await callNow({ name: 'lookup', key: '1' })).toEqual(at(125, 250, 'done'));
    expect(await callNow({ name: 'void', key: '1', paymentToken: 'tok_slow' })).toEqual(at(1_625, 3_250, 'done'));
    expect(await callNow({ name: 'void', key: '2', paymentToken: 'tok_lost_answer' })).toEqual(noAnswer(125));
  });

  it.each(['refund', 'lookup', 'list'] as const)('of the name %s meets faults by chance, too', async (name) => {
    const { callNow } = network({ rates: new Map([['reset', 1]]) });
    expect(await callNow({ name, key: '1' })).toEqual(reset);
  });

  it('may meet several faults', async () => {
    const { callNow } = network({ rates: new Map([['slow', 1] as const, ['lost_answer', 1] as const]) });
    expect(await callNow({ name: 'capture', key: '1', paymentToken: 'tok_late_capture' })).toEqual(noAnswer(13_500));
  });

  it('is counted apart from others of its name', async () => {
    const { callNow } = network();
    const authorize = { name: 'authorize', key: '1', paymentToken: 'tok_error' } as const;
    expect(await callNow(authorize)).toEqual(error500);
    expect(await callNow({ ...authorize, key: '2' })).toEqual(error500);
    expect(await callNow(authorize)).toEqual(done);
  });

  it('has its chances whatever was looked up under its key', async () => {
    const rates: FaultRates = new Map([['error', 0.5]]);
    const [quiet, watched] = [network({ rates }), network({ rates })];
    const made = { name: 'authorize', key: '1' } as const;
    for (let index = 0; index < 20; index++) {
      await watched.callNow({ name: 'lookup', key: '1' });
      expect(await watched.callNow(made)).toEqual(await quiet.callNow(made));
    }
  });

  it('is the first again when very many keys came after it', async () => {
    const { call, callNow } = network();
    const first = { name: 'void', key: 'first', paymentToken: 'tok_error' } as const;
    expect(await callNow(first)).toEqual(error500);
    for (let index = 0; index < 100_000; index++) call({ ...first, key: String(index) });
    expect(await callNow(first)).toEqual(error500);
    expect(await callNow({ ...first, key: '99999' })).toEqual(done);
  });
});

describe('closing', () => {
  it('leaves what is on its way unanswered, without effect, and no timer behind', async () => {
    const { call, close } = network({ latencyMs: 100 });
    const early = call({ name: 'authorize', key: '1', paymentToken: 'tok_late_request' });
    const halfway = call({ name: 'void', key: '1' });
    await vi.advanceTimersByTimeAsync(60);
    close();
    await vi.advanceTimersByTimeAsync(0);
    const closedMessage = `${GatewayUnanswered.name}: The gateway was closed before it answered`;
    expect(early).toEqual(at(null, 60, closedMessage));
    expect(halfway).toEqual(at(50, 60, closedMessage));
    expect(vi.getTimerCount()).toBe(0);
    const later = call({ name: 'lookup', key: '1' });
    await vi.advanceTimersByTimeAsync(0);
    expect(later).toEqual(at(null, 0, closedMessage));
  });
});
