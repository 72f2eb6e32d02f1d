import { ensureShop } from '../modules/shop/shop.service.ts';
import type { Config } from '../platform/config.ts';
import { type Database, openDatabase } from '../platform/db.ts';

/** Runs `work` on the shop of the database at `url`, which is founded if nobody has done so yet. */
export async function withShop<T>(
  config: Config,
  url: string,
  work: (db: Database, currency: string) => Promise<T>,
): Promise<T> {
  const db = openDatabase({ url, name: 'command', connections: 1, waiting: 1, onError: () => undefined });
  try {
    const shop = await ensureShop(db, { currency: config.CURRENCY, secretKey: config.SECRET_KEY });
    return await work(db, shop.currency);
  } finally {
    await db.close();
  }
}
