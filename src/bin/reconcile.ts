import { type Discrepancy, lastPeriod, reconcile } from '../modules/checkout/reconcile.ts';
import type { Config } from '../platform/config.ts';
import { withPaymentDesk } from './payment-desk.ts';

const hourMs = 3_600_000;

/** `scalecommerce reconcile`: compares the gateway's book with ours; the exit status is 1 when people have to see to something. */
export async function reconcileCommand(config: Config, { hours }: { hours: number }): Promise<number> {
  const { compared, discrepancies } = await withPaymentDesk(config, async (desk) => {
    const { since, until } = await lastPeriod(desk.database, hours * hourMs);
    return reconcile(desk, since, until);
  });
  for (const discrepancy of discrepancies) console.log(lineOn(discrepancy));
  const left = discrepancies.filter(({ acted }) => !acted).length;
  console.log(
    discrepancies.length === 0
      ? `The books agree: ${compared} payments compared.`
      : `${discrepancies.length} of ${compared} payments differed; ${left} ${left === 1 ? 'is' : 'are'} left for people to see to.`,
  );
  return left === 0 ? 0 : 1;
}

function lineOn({ key, problem }: Discrepancy): string {
  return `${key}  ${problem}`;
}
