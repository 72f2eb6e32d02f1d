import { expect, it } from 'vitest';
import { GatewayUnanswered, type PaymentGateway, withDeadline } from './payments.service.ts';

const authorization = { key: 'key', paymentToken: 'tok_success', amount: 100, currency: 'USD' };

/** Answers as `lookup` says; nothing else is asked of it. */
function gatewayThat(lookup: PaymentGateway['lookup'], deadlineMs: number): PaymentGateway {
  const unused = async (): Promise<never> => {
    throw new Error('Not asked for here');
  };
  const others = { authorize: unused, capture: unused, void: unused, refund: unused, listAuthorizations: unused };
  return withDeadline({ ...others, lookup, close: async () => undefined }, deadlineMs);
}

it('gives up a call that is not answered in time, and says which', async () => {
  const gateway = gatewayThat(() => new Promise(() => undefined), 200);
  await expect(gateway.lookup('key')).rejects.toThrow(
    new GatewayUnanswered('The gateway did not answer lookup within 0.2 s'),
  );
  await gateway.close();
});

it('hands answers and errors on as they are', async () => {
  const gateway = gatewayThat(async () => null, 5_000);
  expect(await gateway.lookup('key')).toBeNull();
  await expect(gateway.authorize(authorization)).rejects.toThrow('Not asked for here');
  await gateway.close();
});

it('gives up each of many calls after its own time', async () => {
  const answers: Array<(found: null) => void> = [];
  const gateway = gatewayThat(() => new Promise((resolve) => void answers.push(resolve)), 300);
  const calls = Array.from({ length: 100 }, () => gateway.lookup('key'));
  for (const [index, answer] of answers.entries()) if (index % 2 === 0) answer(null);
  const outcomes = await Promise.allSettled(calls);
  const answered = outcomes.map((outcome) => outcome.status === 'fulfilled');
  expect(answered).toEqual(calls.map((_, index) => index % 2 === 0));
  await gateway.close();
});
