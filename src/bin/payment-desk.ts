import type { PaymentGateway } from '../modules/payments/payments.service.ts';
import type { Config } from '../platform/config.ts';
import { type Database, openDatabase } from '../platform/db.ts';
import { openGateway } from '../resources.ts';
import { withDatabase } from './database.ts';

/** What a command about orders works with. */
export type PaymentDesk = Readonly<{ database: Database; gateway: PaymentGateway }>;

/** Runs `work` with the database and the gateway that `config` names, beside a running shop or alone. */
export function withPaymentDesk<T>(config: Config, work: (desk: PaymentDesk) => Promise<T>): Promise<T> {
  return withDatabase(config, async ({ url }) => {
    // What goes wrong is told where it is waited for.
    const onError = (): void => undefined;
    const database = openDatabase({ url, name: 'command', connections: 4, waiting: 1_000, onError });
    const gateway = openGateway(config, url, onError);
    try {
      return await work({ database, gateway });
    } finally {
      await gateway.close();
      await database.close();
    }
  });
}
