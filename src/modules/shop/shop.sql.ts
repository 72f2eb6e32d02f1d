import { type Reader, sql } from '../../platform/db.ts';

export type ShopRow = { currency: string; secret_key: string; order_number_key: string };

const insertShop = sql(
  'shop.insert',
  `INSERT INTO shop (currency, secret_key, order_number_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
);
const selectShop = sql('shop.select', 'SELECT currency, secret_key, order_number_key FROM shop');

/** Makes the shop's row unless there is one. */
export async function insertShopOnce(db: Reader, row: ShopRow): Promise<void> {
  await db.query(insertShop, [row.currency, row.secret_key, row.order_number_key]);
}

/** The shop's row, if it has been made. */
export async function findShop(db: Reader): Promise<ShopRow | undefined> {
  const [row] = await db.query<ShopRow>(selectShop);
  return row;
}
