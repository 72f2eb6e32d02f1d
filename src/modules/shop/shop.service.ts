import { createSecretKey, hkdfSync, type KeyObject, randomBytes } from 'node:crypto';
import type { Database } from '../../platform/db.ts';
import { findShop, insertShopOnce } from './shop.sql.ts';

/** What all processes of a shop agree on. */
export type Shop = Readonly<{
  currency: string;
  pageKeySecret: Buffer;
  orderNumberKey: Buffer;
  /** Signs the tickets with which the events of an order are heard. */
  ticketKey: KeyObject;
  /** Names this database, without telling anything of it, to who remembers an offset of one of its streams. */
  streamEpoch: string;
}>;

/**
 * The shop of this database, made at its first start with fresh secrets. A `secretKey` that is given takes the place of
 * the stored one. Throws when the shop was founded in another currency.
 */
export async function ensureShop(
  db: Database,
  wanted: { currency: string; secretKey?: string | undefined },
): Promise<Shop> {
  await insertShopOnce(db, {
    currency: wanted.currency,
    secret_key: randomBytes(32).toString('hex'),
    order_number_key: randomBytes(32).toString('hex'),
  });
  const row = await findShop(db);
  if (!row) throw new Error('The shop table is empty although a row has just been written to it');
  if (row.currency !== wanted.currency)
    throw new Error(
      `This shop's prices are in ${row.currency}, but CURRENCY is ${wanted.currency}. Set CURRENCY=${row.currency}, or use another database.`,
    );
  return {
    currency: row.currency,
    pageKeySecret: derivedKey(wanted.secretKey ?? row.secret_key, 'page keys'),
    orderNumberKey: Buffer.from(row.order_number_key, 'hex'),
    ticketKey: createSecretKey(derivedKey(wanted.secretKey ?? row.secret_key, 'event tickets')),
    // Of a key that is never replaced: another epoch ends every history.
    streamEpoch: derivedKey(row.order_number_key, 'stream epoch').toString('base64url', 0, 12),
  };
}

/** One secret, several keys that tell nothing of each other (HKDF, RFC 5869). */
function derivedKey(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `scalecommerce ${purpose}`, 32));
}
