import type { Config } from '../platform/config.ts';

type Shown = Readonly<{
  config: Config;
  address: string;
  databaseIsEmbedded: boolean;
  hasDemo: boolean;
  sampleProductId: string | null;
}>;

/** What a newcomer is told once the shop is open: where it is, what is real, and three lines to try it with. */
export function banner({ config, address, databaseIsEmbedded, hasDemo, sampleProductId }: Shown): string {
  const database = databaseIsEmbedded ? `embedded PostgreSQL in ${config.DATA_DIR}` : 'PostgreSQL at DATABASE_URL';
  const lines = [
    '',
    `  ScaleCommerce is open at ${address}`,
    '',
    ...(hasDemo ? [`  Watch it   ${address}/demo`] : []),
    `  Reference  ${address}/docs`,
    `  Database   ${database}`,
    '  Payments   SIMULATED: no money moves; tok_success pays, tok_fail is declined',
    '',
    ...(sampleProductId === null
      ? ['  The catalogue is empty: see scalecommerce import --help']
      : tryIt(address, sampleProductId)),
    '',
    '  Ctrl-C stops everything.',
    '',
  ];
  return lines.join('\n');
}

/** Each line stands alone, so that it can be pasted; the second keeps the basket's token for the third. */
function tryIt(address: string, productId: string): string[] {
  const json = `-H 'Content-Type: application/json'`;
  const item = JSON.stringify({ product: { product_id: productId, quantity: 1 } });
  const checkout = JSON.stringify({
    payment_token: 'tok_success',
    email: 'shopper@example.com',
    address: { line_1: '1 Main St', city: 'Springfield', state: 'IL', zip: '62701', country: 'US' },
  });
  const keepToken = `awk 'tolower($1) == "shopping-basket-id:" { print $2 }'`;
  return [
    '  Try it: browse, fill a basket, check out',
    '',
    `curl -s -w '\\n' ${address}/api/v2/products`,
    `BASKET=$(curl -si ${address}/api/v2/shopping_basket/products ${json} -d '${item}' | tr -d '\\r' | ${keepToken})`,
    `curl -s -w '\\n' ${address}/api/v1/shopping_basket/checkout -H "Authorization: Bearer $BASKET" ${json} -d '${checkout}'`,
  ];
}
