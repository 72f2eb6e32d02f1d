import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import type { InjectOptions, LightMyRequestResponse as Response } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '../src/shared/ids.ts';
import { faultsIn, type LoggedShop, openLoggedShop } from './support/logged-shop.ts';
import { addProduct, checkoutBody, orderIdOf, Shopper } from './support/shop.ts';

let site: LoggedShop;
let shopper: Shopper;
let lampId: string;

beforeAll(async () => {
  site = await openLoggedShop();
  shopper = new Shopper(site.app);
  lampId = await addProduct(site.shop, { stock: 20_000 });
  await shopper.put(lampId, 2);
});
afterAll(() => site.close());

/** A request of either version of the API: `path` goes behind `/api/v1` and `/api/v2`. */
type Request = Readonly<{
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  /** Sent as JSON, unless it is text or bytes. */
  body?: unknown;
}>;
type BadInput = readonly [what: string, request: Request, status: number, message: string];

const products = '/shopping_basket/products';
const checkout = '/shopping_basket/checkout';
/** Stands for the id of the product that is in the basket. */
const lamp = '<lamp>';
const line = (changes: object = {}): object => ({ product: { product_id: lamp, quantity: 1, ...changes } });
const lineOf = (quantity: string): string => JSON.stringify(line({ quantity: '?' })).replace('"?"', quantity);
const address = (changes: object): Record<string, unknown> =>
  checkoutBody({ address: { ...(checkoutBody().address as object), ...changes } });
const withType = (type: string): Record<string, string> => ({ 'content-type': type });
const nested = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;

const unsupported = 'Send a JSON body with Content-Type: application/json';
const invalidJson = 'Invalid JSON in the request body';
const noProduct = 'Missing parameter: product';
const noAddress = 'Missing parameter: address';
const forbiddenKey = 'The request body has a key that is not allowed';
const tooComplex = 'The request body is nested too deeply or has too many values';
const notInteger = 'Quantity must be an integer';
const cardNumber = 'must not contain a card number';
const foreign = 'Origin is not allowed; the shop can list it in ALLOWED_ORIGINS';
const repeated = 'A query parameter is given more than once or as an array';

const contentTypes: BadInput[] = [
  ...[
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonx',
    'application/xml',
    'application/json, text/plain',
    'text/plain; application/json',
    'application',
    'application/',
    '/json',
    ';application/json',
    'application json',
  ].map((type): BadInput => [`of type ${type}`, { headers: withType(type), body: line() }, 415, unsupported]),
  ...[
    'application/json\t;a',
    ' application/json',
    'application/json ',
    'APPLICATION/JSON',
    'application/json;charset=utf-16',
    'application/json; charset="utf-8"; a=";"',
  ].map((type): BadInput => {
    const body = line({ quantity: '2' });
    return [`of type ${JSON.stringify(type)} without validation`, { headers: withType(type), body }, 422, notInteger];
  }),
  ['of no type', { headers: withType(''), body: line() }, 415, unsupported],
  [
    'packed by gzip',
    { headers: { 'content-encoding': 'gzip' }, body: gzipSync(JSON.stringify(line())) },
    415,
    'Send the body as it is, without Content-Encoding',
  ],
  [
    'that only says to be packed',
    { headers: { 'content-encoding': 'br' }, body: line() },
    415,
    'Send the body as it is, without Content-Encoding',
  ],
];

const bodies: BadInput[] = [
  ...[
    '{',
    '{"product":',
    "{'product':{}}",
    '{"product":{"quantity":NaN}}',
    '{"product":{"quantity":Infinity}}',
    '{"product":{},}',
    '{}{}',
    'product[product_id]=1',
    '\ufeff{"product":{}}',
  ].map((body): BadInput => [`that is no JSON: ${body}`, { body }, 400, invalidJson]),
  ['that is no UTF-8', { body: Buffer.from([0x22, 0xff, 0xfe, 0x22]) }, 400, invalidJson],
  ['with half a surrogate as bytes', { body: Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]) }, 400, invalidJson],
  ['over 64 KB', { body: `${' '.repeat(65_536)}{}` }, 413, 'The request body is larger than 64 KB'],
  ['of 10,000 levels', { body: nested(10_000) }, 400, tooComplex],
  ['of 30,000 levels that never close', { body: '['.repeat(30_000) }, 400, invalidJson],
  ['of 5,000 keys', { body: Object.fromEntries(Array.from({ length: 5_000 }, (_, n) => [n, n])) }, 400, tooComplex],
  ['with the key __proto__', { body: `{"__proto__":{"product":{}},"product":{}}` }, 400, forbiddenKey],
  ['with that key further in', { body: '{"product":{"__proto__":{"quantity":1}}}' }, 400, forbiddenKey],
  ['with that key in escapes', { body: '{"\\u005f\\u005fproto\\u005f_":1}' }, 400, forbiddenKey],
  ['with constructor.prototype', { body: line({ constructor: { prototype: { quantity: 1 } } }) }, 400, forbiddenKey],
];

const notObjects: BadInput[] = ['', 'null', 'true', '1', '"text"', '[]', '[{}]', '{}'].flatMap((body): BadInput[] => [
  [`that is ${body || 'empty'}, to the basket`, { body }, 400, noProduct],
  [`that is ${body || 'empty'}, to the checkout`, { path: checkout, body }, 400, noAddress],
]);

const parameters: BadInput[] = [null, [], [{}], 'text', 1, true].flatMap((value): BadInput[] => [
  [`with the product ${JSON.stringify(value)}`, { body: { product: value } }, 400, noProduct],
  [
    `with the address ${JSON.stringify(value)}`,
    { path: checkout, body: checkoutBody({ address: value }) },
    400,
    noAddress,
  ],
]);

const quantities: BadInput[] = [
  ['of -1', { body: line({ quantity: -1 }) }, 422, 'Quantity must be greater than or equal to 0'],
  ...['1.5', '"2"', '"0x2"', '1e309', '-1e309', 'null', 'true', '[1]', '{}', '""'].map(
    (quantity): BadInput => [`of ${quantity}`, { body: lineOf(quantity) }, 422, notInteger],
  ),
  ['that is missing', { body: line({ quantity: undefined }) }, 422, notInteger],
  ...['10001', '9007199254740992', '1e300'].map(
    (quantity): BadInput => [
      `of ${quantity}`,
      { body: lineOf(quantity) },
      422,
      'Quantity must be less than or equal to 10000',
    ],
  ),
];

const notFound = (kind: string, id: string): string => `Couldn't find ${kind} with 'id'="${id}"`;
const unknown = newId();
const badIds = ['1', '1abc', 'null', '%27', 'a b', newId().slice(1), `${newId()}0`, `{${newId()}}`, unknown, 'é', '😀'];

const ids: BadInput[] = [
  ...[...badIds, "' OR 1=1 --", '\0', '\ud800'].map(
    (id): BadInput => [
      `of product ${JSON.stringify(id)}`,
      { body: line({ product_id: id }) },
      404,
      notFound('Product', id),
    ],
  ),
  ...[null, undefined, true, [], ['a'], {}].map(
    (id): BadInput => [
      `of product ${JSON.stringify(id)}`,
      { body: line({ product_id: id }) },
      404,
      notFound('Product', ''),
    ],
  ),
  ['of product 1 (a number)', { body: line({ product_id: 1 }) }, 404, notFound('Product', '1')],
  [
    'of a product with 10,000 characters',
    { body: line({ product_id: 'a'.repeat(10_000) }) },
    404,
    notFound('Product', 'a'.repeat(100)),
  ],
  [
    'of an unknown product, to be taken out',
    { body: line({ product_id: unknown, quantity: 0 }) },
    404,
    notFound('Product', unknown),
  ],
  ...badIds.map(
    (id): BadInput => [
      `in the path: ${id}`,
      { method: 'GET', path: `/products/${encodeURIComponent(id)}` },
      404,
      notFound('Product', id),
    ],
  ),
  ['with slashes in it', { method: 'GET', path: '/products/a%2Fb%5cc' }, 404, notFound('Product', 'a/b\\c')],
  [
    'of 10,000 characters in the path',
    { method: 'GET', path: `/products/${'a'.repeat(10_000)}` },
    414,
    'The address is too long',
  ],
];

const paths: BadInput[] = [
  ...['/', '/product', '/products/x/y', '/basket', '/shopping_basket/x', '%2Fproducts', '//products', '/PRODUCTS'].map(
    (path): BadInput => [path, { method: 'GET', path }, 404, 'Not found'],
  ),
  ...['/products/%', '/products/%zz', '/products/%c3%28', '/products/%ed%a0%80', '/%ff'].map(
    (path): BadInput => [path, { method: 'GET', path }, 400, 'The request cannot be read'],
  ),
  ['posting to nothing', { path: '/nothing', body: {} }, 404, 'Not found'],
  ['sending anything to nothing', { path: '/nothing', body: 'x', headers: withType('text/plain') }, 404, 'Not found'],
];

const queries: BadInput[] = [
  ...['page=1&page=2', 'page=1&page=1', 'page[]=1', 'page%5B%5D=1', 'page[0]=1', 'page[a]=1', 'a=1&a=2'].map(
    (query): BadInput => [query, { method: 'GET', path: `/products?${query}` }, 400, repeated],
  ),
  ['of a write', { path: `${products}?a=1&a=2`, body: line() }, 400, repeated],
];

const origins: BadInput[] = [
  'https://evil.example',
  'null',
  '',
  'http://localhost:81',
  'http://localhost.evil.example',
  'http://localhost@evil.example',
  'file://',
].flatMap((origin): BadInput[] =>
  [products, checkout].map((path) => [
    `${origin || '(empty)'}, to ${path}`,
    { path, headers: { origin }, body: path === products ? line() : checkoutBody() },
    403,
    foreign,
  ]),
);

const forms: BadInput[] = ['application/x-www-form-urlencoded', 'text/plain', 'multipart/form-data; boundary=x'].map(
  (type) => [
    `of a form of another site, as ${type}`,
    { headers: { origin: 'https://evil.example', ...withType(type) }, body: JSON.stringify(line()) },
    403,
    foreign,
  ],
);

const textFields: ReadonlyArray<readonly [name: string, body: (value: unknown) => unknown]> = [
  ['Payment token', (payment_token) => checkoutBody({ payment_token })],
  ['Email', (email) => checkoutBody({ email })],
  ['Line 1', (line_1) => address({ line_1 })],
  ['City', (city) => address({ city })],
  ['State', (state) => address({ state })],
  ['Zip', (zip) => address({ zip })],
  ['Country', (country) => address({ country })],
];

const cardNumbers = [
  '4111111111111111',
  '4111 1111 1111 1111',
  '4111-1111-1111-1111 12/29',
  'Card:378282246310005.',
  '\uff14\uff11\uff11\uff11\u00a01111\u20111111\u20091111',
  '6304 0000 0000 0000 000',
];

const texts: BadInput[] = [
  ...[...textFields, ['Line 2', (line_2: unknown) => address({ line_2 })] as const].flatMap(([name, body]) => [
    ...cardNumbers.map((card): BadInput => {
      const value = name === 'Email' ? card : `No ${card}`;
      return [
        `a card number as ${name}: ${card}`,
        { path: checkout, body: body(value) },
        422,
        `${name} ${name === 'Email' ? 'is invalid' : cardNumber}`,
      ];
    }),
    ...['a\0b', 'a\ud800', '\udc00b'].map(
      (text): BadInput => [
        `${JSON.stringify(text)} as ${name}`,
        { path: checkout, body: body(text) },
        422,
        `${name} is invalid`,
      ],
    ),
    ...[1, true, {}, ['a']].map(
      (value): BadInput => [
        `${JSON.stringify(value)} as ${name}`,
        { path: checkout, body: body(value) },
        422,
        `${name} is invalid`,
      ],
    ),
    [
      `10,000 letters as ${name}`,
      { path: checkout, body: body('a'.repeat(10_000)) },
      422,
      `${name} is too long (maximum is ${{ Email: 254, Zip: 32 }[name] ?? 255} characters)`,
    ] as const,
  ]),
  ...textFields.flatMap(([name, body]) =>
    [undefined, null, '', ' \t\u3000'].map(
      (value): BadInput => [
        `${JSON.stringify(value)} as ${name}`,
        { path: checkout, body: body(value) },
        422,
        `${name} can't be blank`,
      ],
    ),
  ),
  [
    'a card number as e-mail address',
    { path: checkout, body: checkoutBody({ email: '4111111111111111@b.example' }) },
    422,
    `Email ${cardNumber}`,
  ],
  [
    'two addresses as e-mail address',
    { path: checkout, body: checkoutBody({ email: 'a@b.example, c@d.example' }) },
    422,
    'Email is invalid',
  ],
  [
    'a header as e-mail address',
    { path: checkout, body: checkoutBody({ email: 'a@b.example\r\nBcc: c@d.example' }) },
    422,
    'Email is invalid',
  ],
  ...['some', '4111111111111111', null, 1, ['partial']].map(
    (fulfilment): BadInput => [
      `fulfilment ${JSON.stringify(fulfilment)}`,
      { path: checkout, body: checkoutBody({ fulfilment }) },
      422,
      'Fulfilment must be one of partial, all_or_nothing',
    ],
  ),
  ...[1.5, '1000', null].map(
    (expected_total): BadInput => [
      `expected total ${JSON.stringify(expected_total)}`,
      { path: checkout, body: checkoutBody({ expected_total }) },
      422,
      'Expected total must be an integer',
    ],
  ),
];

const table: Array<[group: string, inputs: BadInput[]]> = [
  ['a body', contentTypes],
  ['a body', bodies],
  ['a body', notObjects],
  ['a body', parameters],
  ['a quantity', quantities],
  ['an id', ids],
  ['a path', paths],
  ['a query', queries],
  ['a write from the page of', origins],
  ['a write', forms],
  ['a text', texts],
];

describe.each(['v1', 'v2'])('in %s', (version) => {
  describe.each(table)('%s', (_, inputs) => {
    it.each(inputs)('%s', async (_what, request, status, message) => {
      await expectRefused(injectionOf(version, request), status, message);
    });
  });
});

function injectionOf(
  version: string,
  { method = 'POST', path = products, headers = {}, body }: Request,
): InjectOptions {
  const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const payload = typeof text === 'string' ? text.replaceAll(lamp, lampId) : text;
  const type = method === 'POST' ? withType('application/json') : {};
  return {
    method: method as 'POST',
    url: `/api/${version}${path}`,
    headers: { ...type, ...headers },
    ...(payload === undefined ? {} : { payload }),
  };
}

/**
 * The request is refused to the shopper and to somebody without a basket, in the contract's form and as problem
 * details; all baskets and orders are as they were, the shopper's basket to the byte.
 */
async function expectRefused(injection: InjectOptions, status: number, message: string): Promise<void> {
  const before = await state();
  const response = await shopper.request(injection);
  expectError(response, status, message);
  const stranger = await site.app.inject(injection);
  expectError(stranger, status, message);
  expect(stranger.headers).not.toHaveProperty('shopping-basket-id');
  const headers = { ...injection.headers, accept: 'application/problem+json' };
  expectProblem(await shopper.request({ ...injection, headers }), status, response.json().error.messages);
  expect(await state()).toEqual(before);
}

async function state(): Promise<unknown> {
  const { body, headers, statusCode } = await shopper.basket();
  expect(statusCode).toBe(200);
  const counts = await site.shop.query(`
    SELECT (SELECT count(*) FROM baskets) AS baskets, (SELECT count(*) FROM orders) AS orders,
           (SELECT sum(sellable) FROM stock) AS sellable`);
  return { body, etag: headers.etag, counts };
}

function expectError(response: Response, status: number, message?: string): void {
  expect([response.statusCode, response.body]).toEqual([status, expect.any(String)]);
  expect(response.headers).toMatchObject({
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  const body = response.json();
  expect(body).toEqual({ error: { code: status, messages: expect.any(Array) } });
  expect(body.error.messages.length).toBeGreaterThan(0);
  if (message !== undefined) expect(body.error.messages).toEqual([message]);
  expectNothingTold(response.body);
}

function expectProblem(response: Response, status: number, messages: readonly string[]): void {
  expect(response.headers['content-type']).toBe('application/problem+json');
  expect(response.json()).toEqual({
    type: 'about:blank',
    title: expect.any(String),
    status,
    detail: messages.join('; '),
    messages,
  });
}

/** Neither a card number nor what the program looks like from within. */
function expectNothingTold(text: string): void {
  expect(text.normalize('NFKC').replace(/[^\da-z]/gi, '')).not.toMatch(/4111111111111111|378282246310005|63040000/);
  expect(text).not.toMatch(/node_modules|\.ts:|\n\s+at |pg_|SELECT|relation|syntax|FST_|Ajv/);
}

describe('several faults of one body', () => {
  it('are told together, one message each', async () => {
    const response = await shopper.request({
      method: 'POST',
      url: '/api/v1/shopping_basket/checkout',
      payload: checkoutBody({ email: 'nobody', payment_token: ' ', address: { line_1: 1, city: null, state: '\0' } }),
    });
    expectError(response, 422);
    expect(response.json().error.messages.toSorted()).toEqual([
      "City can't be blank",
      "Country can't be blank",
      'Email is invalid',
      'Line 1 is invalid',
      "Payment token can't be blank",
      'State is invalid',
      "Zip can't be blank",
    ]);
  });
});

describe('a method that a resource does not have', () => {
  const get = 'GET, HEAD, OPTIONS';
  const post = 'POST, OPTIONS';
  const resources = [
    ['/api/v1/products', get],
    ['/api/v2/products/1', get],
    ['/api/v1/shopping_basket', get],
    ['/api/v2/shopping_basket/products', post],
    ['/api/v1/shopping_basket/checkout/', post],
    ['/api/v2/orders/1', get],
    ['/up', get],
    ['/ready', get],
    ['/openapi.json', get],
  ] as const;
  const methods = ['TRACE', 'PUT', 'PATCH', 'DELETE', 'PROPFIND', 'PURGE', 'LINK', 'QUERY', 'M-SEARCH', 'GET', 'POST'];
  const pairs = resources.flatMap(([url, allow]) =>
    methods.filter((method) => !allow.includes(method)).map((method) => [method, url, allow] as const),
  );

  it.each(pairs)('is refused: %s %s', async (method, url, allow) => {
    const before = await state();
    const response = await shopper.request({ method: method as 'GET', url, headers: withType('text/plain') });
    expectError(response, 405);
    expect(response.headers.allow).toBe(allow);
    expect(response.body).not.toContain('text/plain');
    expect(await state()).toEqual(before);
  });

  it.each(resources)('is listed to OPTIONS %s', async (url, allow) => {
    const response = await site.app.inject({ method: 'OPTIONS', url });
    expect([response.statusCode, response.body, response.headers.allow]).toEqual([204, '', allow]);
  });

  it('is not to be had by a header, a field or a parameter', async () => {
    const response = await shopper.request({
      method: 'POST',
      url: '/api/v1/shopping_basket/products?_method=DELETE',
      headers: { 'x-http-method-override': 'DELETE', 'x-method-override': 'GET' },
      payload: { _method: 'DELETE', product: { product_id: lampId, quantity: 2 } },
    });
    expect(response.statusCode).toBe(201);
  });
});

describe('a page', () => {
  it.each(['1e9', '-1', 'abc', '1.5', '', '0', '%zz', '%00', "'", '１'])('%s is the first one in v1', async (page) => {
    const response = await site.app.inject({ url: '/api/v1/products', query: `page=${page}` });
    expect(response.statusCode).toBe(200);
    expect(response.json()).toMatchObject({ page: 1, record_count: 1 });
  });

  it.each(['1', 'abc', '%zz', '%00', 'é', 'A'.repeat(39), 'A'.repeat(10_000)])('%s is no key in v2', async (page) => {
    expectError(await site.app.inject({ url: '/api/v2/products', query: `page=${page}` }), 400, 'Invalid page key');
  });
});

describe('what belongs to somebody else', () => {
  it.each([
    '',
    'Bearer',
    'Bearer null',
    "Bearer ' OR '1'='1",
    `Bearer ${newId()}`,
    `Bearer ${'a'.repeat(10_000)}`,
    `Bearer ${'a '.repeat(5_000)}`,
    'Basic YTpi',
  ])('is not opened by Authorization: %.40s', async (authorization) => {
    const response = await site.app.inject({ url: '/api/v1/shopping_basket', headers: { authorization } });
    expect([response.statusCode, response.json()]).toEqual([
      200,
      { products: [], total_price: { cents: 0, currency: 'USD' } },
    ]);
  });

  it('is not reached through the path, the query or the body', async () => {
    const { token } = shopper;
    const asked = await site.app.inject(`/api/v1/shopping_basket?id=${token}&shopping_basket_id=${token}`);
    expect(asked.json().products).toEqual([]);
    const payload = { shopping_basket_id: token, product: { product_id: lampId, quantity: 1, basket_id: token } };
    const before = (await shopper.basket()).body;
    const written = await site.app.inject({ method: 'POST', url: '/api/v1/shopping_basket/products', payload });
    expect(written.headers['shopping-basket-id']).not.toBe(token);
    expect((await shopper.basket()).body).toBe(before);
  });

  it('is an order that does not exist', async () => {
    const owner = new Shopper(site.app);
    await owner.put(lampId, 1);
    const accepted = await owner.checkout('v2');
    const path = String(accepted.headers.location);
    expect((await owner.request({ url: path })).statusCode).toBe(200);
    const message = notFound('Order', orderIdOf(accepted));
    for (const other of [shopper, new Shopper(site.app)]) expectError(await other.request({ url: path }), 404, message);
  });

  it.each(['1', '1abc', "' OR 1=1 --", newId()])('is no order either: %s', async (id) => {
    const response = await shopper.order(encodeURIComponent(id));
    expectError(response, 404, notFound('Order', id));
  });
});

describe('a field that is not for the client to set', () => {
  it('changes nothing', async () => {
    const customer = new Shopper(site.app);
    const forged = {
      price: 1,
      unit_price: 1,
      total_price: { cents: 1 },
      role: 'admin',
      user_id: 1,
      status: 'completed',
    };
    await customer.request({
      method: 'POST',
      url: '/api/v1/shopping_basket/products',
      payload: { ...forged, product: { ...forged, product_id: lampId, quantity: 2 } },
    });
    expect((await customer.basket()).json().total_price).toEqual({ cents: 2_000, currency: 'USD' });
    const accepted = await customer.checkout('v2', { ...forged, total: 1, currency: 'XXX', id: newId() });
    const status = await customer.request({ url: String(accepted.headers.location) });
    expect(status.json()).toMatchObject({ status: 'pending', order: null, error: null });
    const [order] = await site.shop.query('SELECT total, currency FROM orders WHERE id = $1', [status.json().id]);
    expect(order).toEqual({ total: 2_000, currency: 'USD' });
  });
});

describe('SQL', () => {
  it('is stored as text, in whatever field', async () => {
    const injected = `'); DROP TABLE orders; -- \\' " $1 %s \${x}`;
    const customer = new Shopper(site.app);
    await customer.put(lampId, 1);
    const contact = {
      payment_token: injected,
      email: `o'--/**/#$1@example.com`,
      address: Object.fromEntries(
        ['line_1', 'line_2', 'city', 'state', 'country'].map((field) => [field, `${field} ${injected}`]),
      ),
    };
    contact.address.zip = `'; DELETE FROM orders; --`;
    const response = await customer.checkout('v2', contact);
    expect(response.statusCode).toBe(202);
    const [stored] = await site.shop.query(
      'SELECT email, address, payment_token FROM order_contacts JOIN order_states USING (order_id) WHERE order_id = $1',
      [orderIdOf(response)],
    );
    expect(stored).toEqual(contact);
  });
});

describe('a full basket', () => {
  it('takes no 101st line, and is as it was', async () => {
    const collector = new Shopper(site.app);
    await collector.put(lampId, 1);
    const ids: string[] = [];
    for (let number = 0; number < 99; number++) ids.push(await addProduct(site.shop));
    await site.shop.query(
      `INSERT INTO basket_lines (basket_id, product_id, quantity)
       SELECT id, unnest($2::uuid[]), 1 FROM baskets WHERE token = $1`,
      [String(collector.token), ids],
    );
    const before = await collector.basket();
    expectError(await collector.put(await addProduct(site.shop), 1), 422, 'Basket is full');
    const after = await collector.basket();
    expect([after.headers.etag, after.body]).toEqual([before.headers.etag, before.body]);
    expect(after.json().products).toHaveLength(100);
    await site.shop.query('UPDATE products SET archived_at = now() WHERE id <> $1', [lampId]);
  });
});

describe('whatever is sent', () => {
  const endpoints = ['v1', 'v2'].flatMap((version) => [
    `/api/${version}/shopping_basket/products`,
    `/api/${version}/shopping_basket/checkout`,
  ]);
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 3 }),
    fc.constantFrom(lamp, 'tok_success', 'a@b.example', '\0', '\ud800', 1e308, -0, 2 ** 53),
  );
  const fields = ['product', 'product_id', 'quantity', 'payment_token', 'email', 'address', 'city', 'fulfilment'];
  const record = fc.dictionary(fc.constantFrom(...fields), value, { maxKeys: 4 });
  const body = fc.oneof(
    value,
    record,
    fc.record({ product: fc.oneof(record, value) }),
    fc.record({ address: fc.oneof(record, value), email: value }),
  );

  it('is answered in the form of the contract', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...endpoints), body, async (url, payload) => {
        const text = JSON.stringify(payload).replaceAll(lamp, lampId);
        const response = await site.app.inject({
          method: 'POST',
          url,
          headers: withType('application/json'),
          payload: text,
        });
        if (response.statusCode >= 300) expectError(response, response.json().error.code);
        expect(response.statusCode).toBeLessThan(500);
      }),
      { numRuns: 300 },
    );
  });

  it('as a path is answered in the form of the contract', async () => {
    const segment = fc.oneof(
      fc.constantFrom('..', '.', '', '%2e%2e', '%00', '%2F', 'products', 'orders', 'docs', lamp, '%', '*', ':id', ';a'),
      fc.webSegment(),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(segment, { maxLength: 5 }), async (segments) => {
        const url = `/${segments.join('/')}`.replaceAll(lamp, lampId);
        const response = await site.app.inject({ url, headers: { accept: 'application/json' } });
        if (response.statusCode >= 400) expectError(response, response.json().error.code);
        expect(response.statusCode).toBeLessThan(500);
      }),
      { numRuns: 300 },
    );
  });
});

describe('the log', () => {
  it('tells of no fault, after all of this, and repeats nothing that was sent', () => {
    expect(faultsIn(site.lines)).toEqual([]);
    const log = site.lines.join('');
    expectNothingTold(log);
    expect(log).not.toMatch(/tok_|@|DROP TABLE|Springfield/);
    expect(log).not.toContain(shopper.token);
  });
});
