/**
 * Checkouts without HTTP, as a process of the benchmark: the same acceptance, worker and statements, called by so many
 * loops in the process itself. First told what to set up, then asked to check baskets out.
 */
import { startCheckout } from '../src/modules/checkout/checkout.service.ts';
import { reservationStrategies } from '../src/modules/checkout/reservation.ts';
import { readConfig } from '../src/platform/config.ts';
import { openDatabase } from '../src/platform/db.ts';
import { openResources } from '../src/resources.ts';
import { startWorker } from '../src/worker.ts';
import { answerParent } from './checkout/child.ts';
import { type DirectAnswer, type DirectQuestion, type DirectSetup, latencyOf } from './checkout/messages.ts';

type Desk = Parameters<typeof startCheckout>[0];

const address = { line_1: '1 Main St', city: 'Springfield', state: 'IL', zip: '62701', country: 'US' };

let desk: Desk | null = null;
let close = async (): Promise<void> => undefined;

answerParent<DirectSetup | DirectQuestion>(
  async (question) => (desk && 'tokens' in question ? checkOutAll(desk, question) : setUp(question as DirectSetup)),
  () => close(),
);

async function setUp({ databaseUrl, strategy, connections, works }: DirectSetup): Promise<object> {
  const config = readConfig({ LOG_LEVEL: 'error' });
  const resources = await openResources(config, databaseUrl);
  const { batchDatabase, shop, reader, notifications, onError } = resources;
  const database = openDatabase({ url: databaseUrl, name: 'bench', connections, waiting: 5_000, onError });
  const worker = works ? await startWorker(resources, 'all') : null;
  const { currency, orderNumberKey } = shop;
  const acceptance = { currency, orderNumberKey, holdSeconds: config.HOLD_TTL_S };
  const onSplit = (error: unknown): void => onError(error as Error);
  const reserve = reservationStrategies[strategy]({ database, batchDatabase, acceptance, onSplit });
  desk = { reserve, reader, notifications, worker, onError, waiting: 0 };
  close = async () => {
    await worker?.stop();
    await database.close();
    await resources.close();
  };
  return {};
}

async function checkOutAll(at: Desk, { tokens, callers }: DirectQuestion): Promise<DirectAnswer> {
  const left = [...tokens];
  const durationsMs: number[] = [];
  let refused = 0;
  const call = async (): Promise<void> => {
    for (let token = left.pop(); token; token = left.pop()) {
      const startMs = performance.now();
      const result = await startCheckout(at, checkoutOf(token));
      if (result.ok) durationsMs.push(performance.now() - startMs);
      else refused++;
    }
  };
  const startMs = performance.now();
  await Promise.all(Array.from({ length: callers }, call));
  const seconds = (performance.now() - startMs) / 1_000;
  return { seconds, accepted: durationsMs.length, refused, latencyMs: latencyOf(durationsMs) };
}

function checkoutOf(token: string): Parameters<typeof startCheckout>[1] {
  return {
    token,
    paymentToken: 'tok_success',
    email: 'shopper@example.com',
    address: { ...address, line_2: null },
    fulfilment: 'partial',
    expectedTotal: null,
  };
}
