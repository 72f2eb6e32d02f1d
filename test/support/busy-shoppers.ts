import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ClientRecord, recorded } from './client-records.ts';
import { RemoteShopper, type ShopProcess } from './process.ts';
import { between, oneOf, type Random } from './seed.ts';

export type BusyShoppersOptions = Readonly<{
  shops: readonly ShopProcess[];
  products: readonly string[];
  count: number;
  random: Random;
  /** Where it is put down what each was told. */
  records: ClientRecord[];
}>;

/** Between two tries of what was refused. */
const pauseMs = 50;
const mostTries = 1_000;

/**
 * Sends in a crowd that buys, one basket after the other, and does not stop for faults: refused for now, it tries
 * again; unsure, it leaves that basket. Returns how to let them finish what they have begun and go.
 */
export function startShopping(options: BusyShoppersOptions): () => Promise<void> {
  const { shops, products, count, random, records } = options;
  const agent = new Agent({ keepAlive: true });
  let isOpen = true;
  const shopUntilClosed = async (): Promise<void> => {
    while (isOpen) {
      const shopper = new RemoteShopper(oneOf(random, shops).address, { agent });
      await buy(shopper, oneOf(random, products));
    }
  };
  const buy = async (shopper: RemoteShopper, product: string): Promise<void> => {
    const quantity = between(random, 1, 3);
    const version = random() < 0.3 ? 'v1' : 'v2';
    const isDeclined = random() < 0.15;
    const payment = { payment_token: isDeclined ? 'tok_fail' : 'tok_success' };
    const about = { end: isDeclined ? 'failed' : 'completed', token: () => shopper.token } as const;
    const put = (): Promise<ClientRecord> =>
      recorded(records, { ...about, what: 'put' }, () => shopper.put(product, quantity));
    const checkout = (): Promise<ClientRecord> =>
      recorded(records, { ...about, what: 'checkout' }, () => shopper.checkout(version, payment));
    if (await untilServed(put)) await untilServed(checkout);
  };
  const untilServed = async (operation: () => Promise<ClientRecord>): Promise<boolean> => {
    for (let tries = 1; isOpen && tries <= mostTries; tries++) {
      const { outcome } = await operation();
      if (outcome !== 'failed') return outcome === 'ok';
      await sleep(pauseMs);
    }
    return false;
  };
  const crowd = Array.from({ length: count }, shopUntilClosed);
  return async () => {
    isOpen = false;
    await Promise.all(crowd);
    agent.destroy();
  };
}
