import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { expectSoon } from '../../../test/support/expect-soon.ts';
import { createTestDatabase, onServer, type TestDatabase } from '../../../test/support/postgres.ts';
import { type Database, openDatabase } from '../../platform/db.ts';
import type { FaultRates } from '../../shared/gateway-faults.ts';
import { Unavailable } from '../../shared/refusal.ts';
import {
  type AuthorizeRequest,
  GatewayRefusedRequest,
  GatewayUnanswered,
  type PaymentGateway,
  withDeadline,
} from './payments.service.ts';
import { openSimulatedGateway } from './simulated-gateway.ts';

let database: TestDatabase;
/** Two processes of a shop, as far as the gateway can tell: each has connections and batches of its own. */
let one: PaymentGateway;
let other: PaymentGateway;
let orders = 0;

function open({ url = database.url, rates = new Map() as FaultRates } = {}): PaymentGateway {
  const journal = openDatabase({
    url,
    name: 'simulated gateway',
    connections: 3,
    waiting: 5_000,
    onError: () => undefined,
  });
  return openSimulatedGateway({ journal, latencyMs: 0, rates, seed: 1, onSplit: () => undefined });
}

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());
beforeEach(() => {
  one = open();
  other = open();
});
afterEach(() => Promise.all([one.close(), other.close()]));

/** The requests of a payment of its own. */
function payment(paymentToken = 'tok_success') {
  const id = `order-${String(++orders).padStart(6, '0')}`;
  const authorization: AuthorizeRequest = { key: `${id}:authorize`, paymentToken, amount: 1_750, currency: 'USD' };
  return {
    authorize: authorization,
    capture: { key: `${id}:capture`, authorization },
    void: { key: `${id}:void`, authorization },
    refund: { key: `${id}:refund`, authorizationKey: authorization.key, amount: 1_750, currency: 'USD' },
  };
}
const payments = (count: number) => Array.from({ length: count }, () => payment());

const closed = { outcome: 'closed' };
const reference = expect.stringMatching(/^[0-9a-f-]{36}$/);

async function stateOf(key: string): Promise<string | undefined> {
  const page = await one.listAuthorizations({ since: new Date(0), afterKey: null, limit: 10_000 });
  return page.find((authorization) => authorization.key === key)?.state;
}

function query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
  return onServer(database.url, async (client) => (await client.query<Row>(text, values)).rows);
}

describe('an authorization', () => {
  it('is approved, once: the same request under its key gets the same answer, from any process', async () => {
    const { authorize } = payment();
    const answer = await one.authorize(authorize);
    expect(answer).toEqual({ outcome: 'approved', reference });
    expect(await Promise.all([one.authorize(authorize), other.authorize(authorize)])).toEqual([answer, answer]);
    expect(await stateOf(authorize.key)).toBe('authorized');
  });

  it.each(['tok_fail', 'tok_failure'])('with %s is declined in words for the shopper', async (token) => {
    const { authorize, capture } = payment(token);
    expect(await one.authorize(authorize)).toEqual({ outcome: 'declined', message: 'Insufficient funds' });
    expect(await other.authorize(authorize)).toEqual({ outcome: 'declined', message: 'Insufficient funds' });
    await expect(one.capture(capture)).rejects.toThrow(/cannot be captured: it was declined/);
    expect(await stateOf(authorize.key)).toBeUndefined();
  });

  it('is refused when its key was used for another request', async () => {
    const { authorize, capture } = payment();
    await one.authorize(authorize);
    for (const changed of [{ amount: 1 }, { currency: 'EUR' }, { paymentToken: 'tok_other' }])
      await expect(one.authorize({ ...authorize, ...changed })).rejects.toThrow(GatewayRefusedRequest);
    await expect(one.capture({ ...capture, key: authorize.key })).rejects.toThrow(/used before for another request/);
  });

  it('leaves no payment token in the journal', async () => {
    const { authorize, capture } = payment('tok_of_somebody');
    await one.authorize(authorize);
    await one.capture(capture);
    expect(
      await query('SELECT j FROM simulated_gateway.journal j WHERE j::text LIKE $1', ['%tok_of_somebody%']),
    ).toEqual([]);
  });
});

describe('a capture', () => {
  it('takes an authorized amount, once', async () => {
    const { authorize, capture } = payment();
    await one.authorize(authorize);
    const answer = await one.capture(capture);
    expect(answer).toEqual({ outcome: 'captured', reference });
    expect(await Promise.all([one.capture(capture), other.capture(capture)])).toEqual([answer, answer]);
    await expect(one.capture({ ...capture, key: `${capture.key}:again` })).rejects.toThrow(
      /was captured before, under/,
    );
    expect(await stateOf(authorize.key)).toBe('captured');
  });

  it('needs an authorization, and the one that it names', async () => {
    const { authorize, capture } = payment();
    await expect(one.capture(capture)).rejects.toThrow(/was never authorized/);
    await one.authorize(authorize);
    for (const changed of [{ amount: 1 }, { currency: 'EUR' }, { paymentToken: 'tok_other' }])
      await expect(one.capture({ ...capture, authorization: { ...authorize, ...changed } })).rejects.toThrow(
        /used before for another request/,
      );
    expect(await one.lookup(capture.key)).toBeNull();
    expect(await one.capture(capture)).toEqual({ outcome: 'captured', reference });
  });
});

describe('a void', () => {
  it('closes an authorization with every capture of it, and stays', async () => {
    const { authorize, capture, void: voiding } = payment();
    await one.authorize(authorize);
    expect(await one.void(voiding)).toEqual(closed);
    expect(await other.capture(capture)).toEqual(closed);
    expect(await other.capture({ ...capture, key: `${capture.key}:again` })).toEqual(closed);
    expect(await one.void(voiding)).toEqual(closed);
    expect(await other.void({ ...voiding, key: `${voiding.key}:again` })).toEqual(closed);
    expect(await one.lookup(capture.key)).toBeNull();
    expect(await stateOf(authorize.key)).toBe('voided');
  });

  it('closes a key that the gateway has not seen, and refuses it when it comes', async () => {
    const { authorize, capture, void: voiding } = payment();
    expect(await one.void(voiding)).toEqual(closed);
    expect(await other.authorize(authorize)).toEqual(closed);
    expect(await one.authorize(authorize)).toEqual(closed);
    expect(await one.capture(capture)).toEqual(closed);
    expect(await other.void(voiding)).toEqual(closed);
    expect(await one.lookup(authorize.key)).toMatchObject({ operation: 'authorize', approved: false, amount: 1_750 });
    expect(await stateOf(authorize.key)).toBeUndefined();
    await expect(one.authorize({ ...authorize, amount: 1 })).rejects.toThrow(GatewayRefusedRequest);
  });

  it('closes a declined one, too', async () => {
    const { authorize, capture, void: voiding } = payment('tok_fail');
    const answer = await one.authorize(authorize);
    expect(await one.void(voiding)).toEqual(closed);
    expect(await one.authorize(authorize)).toEqual(answer);
    expect(await one.capture(capture)).toEqual(closed);
  });

  it('finds a capture that came first, which stays', async () => {
    const { authorize, capture, void: voiding } = payment();
    await one.authorize(authorize);
    const captured = await one.capture(capture);
    expect(await one.void(voiding)).toEqual(captured);
    expect(await other.void(voiding)).toEqual(captured);
    expect(await one.capture(capture)).toEqual(captured);
    expect(await one.lookup(voiding.key)).toBeNull();
  });

  it('without the token, which was erased, needs the authorization on record', async () => {
    const { authorize, void: voiding } = payment();
    const erased = { ...voiding, authorization: { ...authorize, paymentToken: null } };
    await expect(one.void(erased)).rejects.toThrow(/cannot be voided without its payment token/);
    await one.authorize(authorize);
    await expect(one.void({ ...erased, authorization: { ...erased.authorization, amount: 1 } })).rejects.toThrow(
      GatewayRefusedRequest,
    );
    expect(await one.void(erased)).toEqual(closed);
    expect(await other.void(voiding)).toEqual(closed);
    expect(await other.void(erased)).toEqual(closed);
    expect(await stateOf(authorize.key)).toBe('voided');
  });

  it('must name the authorization as it was', async () => {
    const { authorize, capture, void: voiding } = payment();
    await one.authorize(authorize);
    await expect(one.void({ ...voiding, authorization: { ...authorize, amount: 1 } })).rejects.toThrow(
      /used before for another request/,
    );
    expect(await one.capture(capture)).toEqual({ outcome: 'captured', reference });
    await expect(one.void({ ...voiding, key: capture.key })).rejects.toThrow(/used before for another request/);
    await expect(one.void({ ...voiding, authorization: { ...authorize, key: capture.key } })).rejects.toThrow(
      GatewayRefusedRequest,
    );
  });
});

describe('a refund', () => {
  it('gives a captured amount back, once', async () => {
    const { authorize, capture, refund, void: voiding } = payment();
    await one.authorize(authorize);
    const captured = await one.capture(capture);
    const answer = await one.refund(refund);
    expect(answer).toEqual({ outcome: 'refunded', reference });
    expect(await Promise.all([one.refund(refund), other.refund(refund)])).toEqual([answer, answer]);
    expect(await other.refund({ ...refund, key: `${refund.key}:again` })).toEqual({
      outcome: 'refused',
      message: 'Refunded before',
    });
    expect(await one.capture(capture)).toEqual(captured);
    expect(await one.void(voiding)).toEqual(captured);
    expect(await stateOf(authorize.key)).toBe('refunded');
  });

  it('needs a capture, of the same amount', async () => {
    const { authorize, capture, refund } = payment();
    await expect(one.refund(refund)).rejects.toThrow(/it is not captured/);
    await one.authorize(authorize);
    await expect(one.refund(refund)).rejects.toThrow(/it is not captured/);
    await one.capture(capture);
    await expect(one.refund({ ...refund, amount: 1 })).rejects.toThrow(/another amount than 1 USD/);
    await expect(one.refund({ ...refund, key: capture.key })).rejects.toThrow(/used before for another request/);
  });

  it('asked for under many keys at once is given once', async () => {
    const { authorize, capture, refund } = payment();
    await one.authorize(authorize);
    await one.capture(capture);
    const keys = Array.from({ length: 20 }, (_, index) => ({ ...refund, key: `${refund.key}:${index}` }));
    const answers = await Promise.all(keys.map((request, index) => (index % 2 ? one : other).refund(request)));
    expect(answers.filter((answer) => answer.outcome === 'refunded')).toHaveLength(1);
  });
});

describe('the record', () => {
  it('is found under each key, and nothing under others', async () => {
    const { authorize, capture, refund } = payment();
    expect(await one.lookup(authorize.key)).toBeNull();
    const money = { approved: true, amount: 1_750, currency: 'USD' };
    const { outcome: _, ...authorized } = (await one.authorize(authorize)) as { outcome: string; reference: string };
    await one.capture(capture);
    await one.refund(refund);
    expect(await other.lookup(authorize.key)).toEqual({ operation: 'authorize', ...money, ...authorized });
    expect(await other.lookup(capture.key)).toEqual({ operation: 'capture', ...money, reference });
    expect(await other.lookup(refund.key)).toEqual({ operation: 'refund', ...money, reference });
  });

  it('lists what was approved since a time, in pages by key', async () => {
    const before = await query<{ now: Date }>('SELECT clock_timestamp() AS now');
    const some = payments(7);
    await Promise.all(some.map(({ authorize }) => one.authorize(authorize)));
    const since = before[0]?.now ?? new Date();
    const keys: string[] = [];
    for (let afterKey: string | null = null; ; afterKey = keys.at(-1) ?? null) {
      const page = await other.listAuthorizations({ since, afterKey, limit: 3 });
      expect(page.length).toBeLessThanOrEqual(3);
      keys.push(...page.map(({ key }) => key));
      if (page.length === 0) break;
    }
    expect(keys).toEqual(some.map(({ authorize }) => authorize.key));
    const later = await query<{ now: Date }>(`SELECT clock_timestamp() + interval '1 hour' AS now`);
    expect(await one.listAuthorizations({ since: later[0]?.now ?? since, afterKey: null, limit: 3 })).toEqual([]);
  });
});

/** What is true of the journal whatever was asked of it. */
async function expectBookInOrder(): Promise<void> {
  const faults = await query(`
    SELECT a.key FROM simulated_gateway.journal a
      LEFT JOIN simulated_gateway.journal e ON e.authorization_key = a.key AND e.approved
     WHERE a.operation = 'authorize'
     GROUP BY a.key
    HAVING count(*) FILTER (WHERE e.operation IN ('capture', 'void')) > 1
        OR count(*) FILTER (WHERE e.operation = 'refund') > 1
        OR (bool_or(e.operation = 'capture') AND NOT a.approved)
        OR (a.closed AND (a.approved OR bool_or(e.operation = 'void') IS NOT TRUE))`);
  expect(faults).toEqual([]);
}

describe('calls that come together', () => {
  it.each([['authorize first'], ['void first']])(
    'authorize against void (%s): the void always holds',
    async (order) => {
      const some = payments(300);
      const authorize = () => some.map((each) => one.authorize(each.authorize));
      const voiding = () => some.map((each) => other.void(each.void));
      const [first, second] = order === 'void first' ? [voiding, authorize] : [authorize, voiding];
      const answers = (await Promise.all([...first(), ...second()])).map((answer) => answer.outcome);
      const [voided, authorized] =
        order === 'void first'
          ? [answers.slice(0, 300), answers.slice(300)]
          : [answers.slice(300), answers.slice(0, 300)];
      expect(new Set(voided)).toEqual(new Set(['closed']));
      expect(authorized.every((outcome) => outcome === 'approved' || outcome === 'closed')).toBe(true);
      const late = await Promise.all(some.map((each) => one.capture(each.capture)));
      expect(late).toEqual(some.map(() => closed));
      await expectBookInOrder();
    },
  );

  it.each([['capture first'], ['void first']])('capture against void (%s): exactly one takes effect', async (order) => {
    const some = payments(300);
    await Promise.all(some.map((each) => one.authorize(each.authorize)));
    const capture = () => some.map((each) => one.capture(each.capture));
    const voiding = () => some.map((each) => other.void(each.void));
    const started =
      order === 'void first' ? { voids: voiding(), captures: capture() } : { captures: capture(), voids: voiding() };
    const captures = await Promise.all(started.captures);
    const voids = await Promise.all(started.voids);
    // The void tells of the very capture that took effect; where none did, the capture was closed.
    expect(voids).toEqual(captures);
    await expectBookInOrder();
  });

  it('in any order, from two processes, repeated: the book stays in order and answers stay the same', async () => {
    const some = payments(60);
    const ask = (gateway: PaymentGateway, each: ReturnType<typeof payment>) => [
      gateway.void({ ...each.void, key: `a${each.void.key}` }),
      gateway.authorize(each.authorize),
      gateway.capture(each.capture).catch((error: Error) => error.name),
      gateway.void(each.void),
      gateway.refund(each.refund).catch((error: Error) => error.name),
    ];
    await Promise.all([
      ...some.flatMap((each) => ask(one, each)),
      ...some.toReversed().flatMap((each) => ask(other, each)),
    ]);
    await expectBookInOrder();
    for (const each of some) {
      const end = await one.void(each.void);
      expect(await other.capture(each.capture)).toEqual(end);
    }
  });
});

const insertRow = `INSERT INTO simulated_gateway.journal
  (key, operation, authorization_key, amount, currency, request_digest, approved, closed, reference)
  SELECT $1, $2, $3, amount, currency, request_digest, true, false, gen_random_uuid()
    FROM simulated_gateway.journal WHERE key = $4`;

describe('a call that finds another under way', () => {
  it.each(['COMMIT', 'ROLLBACK'])('void waits for a capture: %s', async (end) => {
    const { authorize, capture, void: voiding } = payment();
    await one.authorize(authorize);
    const [answer] = await whileUnderWay(
      [capture.key, 'capture', authorize.key, authorize.key],
      [() => one.void(voiding)],
      end,
    );
    expect(answer).toEqual(end === 'COMMIT' ? { outcome: 'captured', reference } : closed);
    await expectBookInOrder();
  });

  it.each(['COMMIT', 'ROLLBACK'])('capture waits for a void: %s', async (end) => {
    const { authorize, capture, void: voiding } = payment();
    await one.authorize(authorize);
    const [answer] = await whileUnderWay(
      [voiding.key, 'void', authorize.key, authorize.key],
      [() => one.capture(capture)],
      end,
    );
    expect(answer).toEqual(end === 'COMMIT' ? closed : { outcome: 'captured', reference });
    await expectBookInOrder();
  });

  it.each(['COMMIT', 'ROLLBACK'])('void waits for the authorization itself: %s', async (end) => {
    const [model, { authorize, capture, void: voiding }] = [payment(), payment()];
    await one.authorize(model.authorize);
    const [answer] = await whileUnderWay(
      [authorize.key, 'authorize', null, model.authorize.key],
      [() => one.void(voiding)],
      end,
    );
    expect(answer).toEqual(closed);
    const late = await other.authorize(authorize);
    expect(late).toEqual(end === 'COMMIT' ? { outcome: 'approved', reference } : closed);
    expect(await one.capture(capture)).toEqual(closed);
    await expectBookInOrder();
  });

  it('batches that void one authorization under two keys wait for each other in no circle', async () => {
    const [model, shared, last] = [payment(), payment(), payment()];
    await one.authorize(model.authorize);
    // Between the authorization and the void of `shared` in the order of the keys: a batch in that order would stop there.
    const gate = `p-${last.void.key}`;
    const together = (): Promise<unknown> => {
      // One leaves alone, so that the others wait together and leave together.
      const ahead = payments(1).map((each) => one.authorize(each.authorize));
      const voids = [
        { ...shared.void, key: `z-${shared.void.key}` },
        { ...last.void, key: gate },
      ];
      return Promise.all([...ahead, ...voids.map((request) => one.void(request))]);
    };
    const alone = (): Promise<unknown> => other.void({ ...shared.void, key: `a-${shared.void.key}` });
    const row = [gate, 'void', last.authorize.key, model.authorize.key];
    const [answers, answer] = await whileUnderWay(row, [together, alone], 'ROLLBACK');
    const approved = { outcome: 'approved', reference };
    expect(answers).toEqual([approved, closed, closed]);
    expect(answer).toEqual(closed);
    await expectBookInOrder();
  });
});

/** Asks while a row stands uncommitted in the journal, each when those before it wait for it; then it is ended. */
async function whileUnderWay<T>(
  row: readonly (string | null)[],
  asks: ReadonlyArray<() => Promise<T>>,
  end: string,
): Promise<T[]> {
  const answers: Array<Promise<T>> = [];
  await onServer(database.url, async (holder) => {
    await holder.query('BEGIN');
    await holder.query(insertRow, [...row]);
    for (const ask of asks) {
      answers.push(ask());
      await expectSoon(async () => (await query(whoWaits)).length).toBe(answers.length);
    }
    await holder.query(end);
  });
  return Promise.all(answers);
}

/** Asked on a connection of its own: a transaction keeps what it saw of this view first. */
const whoWaits = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;

describe('a journal that cannot be written', () => {
  it('leaves every call unanswered, with the cause', async () => {
    const unreachable = open({ url: 'postgres://nobody@127.0.0.1:1/nothing' });
    const { authorize, capture, refund, void: voiding } = payment();
    const calls = [
      unreachable.authorize(authorize),
      unreachable.capture(capture),
      unreachable.void(voiding),
      unreachable.refund(refund),
      unreachable.lookup(authorize.key),
      unreachable.listAuthorizations({ since: new Date(0), afterKey: null, limit: 1 }),
    ];
    for (const outcome of await Promise.allSettled(calls)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(GatewayUnanswered) });
      expect(outcome).toMatchObject({ reason: { cause: expect.any(Unavailable) } });
    }
    await unreachable.close();
  });

  it('refuses what it can never hold, and its neighbours are served', async () => {
    const [bad, ...good] = [payment(), payment(), payment()];
    const answers = await Promise.allSettled([
      one.authorize(payment().authorize),
      one.authorize({ ...bad.authorize, amount: 0 }),
      ...good.map(({ authorize }) => one.authorize(authorize)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(answers[1]).toMatchObject({ reason: expect.any(GatewayRefusedRequest) });
  });
});

describe('a fault on the way', () => {
  /** Far more than the journal needs, far less than a test may take. */
  const patient = () => withDeadline(one, 1_000);

  it.each(['tok_reset', 'tok_lost_answer'])(
    '%s leaves the effect, and the same call again hears of it',
    async (token) => {
      const { authorize, capture, void: voiding } = payment(token);
      await expect(patient().authorize(authorize)).rejects.toThrow(GatewayUnanswered);
      const found = await one.lookup(authorize.key);
      expect(found).toMatchObject({ operation: 'authorize', approved: true });
      expect(await patient().authorize(authorize)).toEqual({ outcome: 'approved', reference: found?.reference });
      await expect(patient().capture(capture)).rejects.toThrow(GatewayUnanswered);
      await expect(patient().void(voiding)).rejects.toThrow(GatewayUnanswered);
      expect(await patient().void(voiding)).toEqual(await patient().capture(capture));
      expect(await stateOf(authorize.key)).toBe('captured');
    },
  );

  it.each(['tok_error', 'tok_rate_limited', 'tok_lost_request'])(
    '%s leaves nothing, and the same call again gets through',
    async (token) => {
      const { authorize, capture } = payment(token);
      await expect(patient().authorize(authorize)).rejects.toThrow(GatewayUnanswered);
      expect(await one.lookup(authorize.key)).toBeNull();
      expect(await patient().authorize(authorize)).toEqual({ outcome: 'approved', reference });
      await expect(patient().capture(capture)).rejects.toThrow(GatewayUnanswered);
      expect(await one.lookup(capture.key)).toBeNull();
      expect(await patient().capture(capture)).toEqual({ outcome: 'captured', reference });
    },
  );

  it('tok_unreachable lets nothing through, a void neither', async () => {
    const { authorize, capture, void: voiding } = payment('tok_unreachable');
    const hasty = withDeadline(one, 50);
    const calls = [hasty.authorize(authorize), hasty.capture(capture), hasty.void(voiding)];
    for (const outcome of await Promise.allSettled(calls))
      expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(GatewayUnanswered) });
    expect(
      await query('SELECT FROM simulated_gateway.journal WHERE amount = $1 AND key = ANY ($2)', [
        authorize.amount,
        [authorize.key, capture.key, voiding.key],
      ]),
    ).toEqual([]);
  });

  it('tok_authorize_unreachable can be voided', async () => {
    const { authorize, void: voiding } = payment('tok_authorize_unreachable');
    await expect(withDeadline(one, 50).authorize(authorize)).rejects.toThrow(GatewayUnanswered);
    expect(await one.lookup(authorize.key)).toBeNull();
    expect(await patient().void(voiding)).toEqual(closed);
  });

  it('tok_broken_answer throws what is neither an answer nor the want of one, and can be voided', async () => {
    const { authorize, capture, void: voiding } = payment('tok_broken_answer');
    for (const call of [() => one.authorize(authorize), () => one.capture(capture)]) {
      const error = await call().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(Error);
      expect(error).not.toBeInstanceOf(GatewayUnanswered);
      expect(error).not.toBeInstanceOf(GatewayRefusedRequest);
    }
    expect(await one.lookup(authorize.key)).toBeNull();
    expect(await one.void(voiding)).toEqual(closed);
  });

  it('tok_capture_refused is refused for good, and can be voided before or after', async () => {
    const [refused, voided] = [payment('tok_capture_refused'), payment('tok_capture_refused')];
    const blocked = { outcome: 'refused', message: 'Card was blocked' };
    await expect(one.capture(refused.capture)).rejects.toThrow(/was never authorized/);
    await one.authorize(refused.authorize);
    expect(await one.capture(refused.capture)).toEqual(blocked);
    expect(await other.capture(refused.capture)).toEqual(blocked);
    expect(await stateOf(refused.authorize.key)).toBe('authorized');
    await expect(one.refund(refused.refund)).rejects.toThrow(/it is not captured/);
    expect(await one.void(refused.void)).toEqual(closed);
    await one.authorize(voided.authorize);
    await one.void(voided.void);
    expect(await one.capture(voided.capture)).toEqual(closed);
  });

  it('tok_late_request arrives after it was given up, and finds its key closed', async () => {
    const { authorize, void: voiding } = payment('tok_late_request');
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const late = one.authorize(authorize);
    const givenUp = withDeadline({ ...one, authorize: () => late }, 8_000)
      .authorize(authorize)
      .catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(8_000);
    expect(await givenUp).toBeInstanceOf(GatewayUnanswered);
    expect(await one.lookup(authorize.key)).toBeNull();
    expect(await one.void(voiding)).toEqual(closed);
    await vi.advanceTimersByTimeAsync(4_000);
    expect(await late).toEqual(closed);
  });

  it('tok_late_capture arrives after the void, and finds the authorization closed', async () => {
    const { authorize, capture, void: voiding } = payment('tok_late_capture');
    await one.authorize(authorize);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const late = one.capture(capture);
    expect(await one.void(voiding)).toEqual(closed);
    await vi.advanceTimersByTimeAsync(12_000);
    expect(await late).toEqual(closed);
  });

  it('by chance befalls any token', async () => {
    const unlucky = open({ rates: new Map([['decline', 1] as const, ['reset', 1] as const]) });
    const { authorize } = payment();
    await expect(unlucky.authorize(authorize)).rejects.toThrow('The gateway reset the connection');
    expect(await one.authorize(authorize)).toEqual({ outcome: 'declined', message: 'Insufficient funds' });
    await expect(unlucky.lookup(authorize.key)).rejects.toThrow(GatewayUnanswered);
    await unlucky.close();
  });
});

describe('a batch', () => {
  it('of ordinary calls is one statement', async () => {
    const statements: string[] = [];
    const journal = openDatabase({
      url: database.url,
      name: 'simulated gateway',
      connections: 3,
      waiting: 5_000,
      onError: () => undefined,
    });
    const counted: Database = {
      ...journal,
      query: (statement, values) => {
        statements.push(statement.name);
        return journal.query(statement, values);
      },
    };
    const gateway = openSimulatedGateway({
      journal: counted,
      latencyMs: 0,
      rates: new Map(),
      seed: 1,
      onSplit: () => undefined,
    });
    const some = payments(900);
    for (const call of [
      () => some.map((each) => gateway.authorize(each.authorize)),
      () => some.map((each) => gateway.capture(each.capture)),
    ]) {
      await Promise.all(call());
      // One leaves alone, before there is anything to wait for; the rest in one batch.
      expect(statements.splice(0)).toEqual(Array.from({ length: 2 }, () => 'simulated_gateway.insert_first'));
    }
    await gateway.close();
  });
});
