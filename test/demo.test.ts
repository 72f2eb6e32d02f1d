import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { openBrowser, type Visit, type Visits } from './support/browser.ts';
import { eventually } from './support/eventually.ts';
import { expectNothingLeftOver } from './support/invariants.ts';
import { openLedger } from './support/ledger.ts';
import { createTestDatabase, type TestDatabase } from './support/postgres.ts';
import { type ShopProcess, startProcess } from './support/process.ts';
import { addProduct, openTestShop } from './support/shop.ts';

/** An expression, for the page. */
const faintTexts = readFileSync('test/support/faint-texts.js', 'utf8');

let database: TestDatabase;
let ledger: ReturnType<typeof openLedger>;
let shop: ShopProcess;
let browser: Visits;

beforeAll(async () => {
  database = await createTestDatabase();
  ledger = openLedger(database.url);
  shop = await startProcess(database.url, { DEMO: 'on' });
  browser = await openBrowser();
  for (const name of ['Kettle', 'Lamp', 'Rug']) await addProduct(ledger, { name, priceCents: 1_250, stock: 100 });
  await addProduct(ledger, { name: 'Vase', stock: 0 });
});

afterAll(async () => {
  await browser?.close();
  await shop?.end('SIGTERM');
  await ledger?.close();
  await database?.drop();
});

async function visit(part: 'shop' | 'drop', scheme: 'light' | 'dark' = 'light'): Promise<Visit> {
  const visited = await browser.open();
  const { page } = visited;
  await page.setViewport({ width: 1_280, height: 900 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  await page.goto(`${shop.address}/demo#${part}`);
  await page.waitForSelector('#live[data-state=open]');
  await page.waitForSelector('.product');
  return visited;
}

function textOf({ page }: Visit, selector: string): Promise<string> {
  return page.$eval(selector, (element) => element.textContent ?? '');
}

/** Waits until the text of `selector` matches. */
function told(visited: Visit, selector: string, pattern: RegExp): Promise<string> {
  return eventually(async () => {
    const text = await textOf(visited, selector);
    return pattern.test(text) ? text : null;
  });
}

async function fill({ page }: Visit, selector: string, value: string): Promise<void> {
  await page.$eval(
    selector,
    (field, text) => {
      field.value = text;
      field.dispatchEvent(new Event('change'));
    },
    value,
  );
}

async function expectAtPeace({ complaints, requested }: Visit): Promise<void> {
  expect(complaints).toEqual([]);
  expect(requested.filter((address) => new URL(address).host !== new URL(shop.address).host)).toEqual([]);
}

describe("the shopper's view", () => {
  it('fills a basket, changes it, checks out and shows the outcome as it arrives', async () => {
    const visited = await visit('shop');
    const { page } = visited;
    await page.click('[aria-label="Add Kettle to the basket"]');
    await told(visited, '#total', /12\.50/);
    await page.click('[aria-label="Add Lamp to the basket"]');
    await told(visited, '#total', /25\.00/);
    await fill(visited, '[aria-label="Quantity of Lamp"]', '3');
    await told(visited, '#total', /50\.00/);
    await page.click('[aria-label="Remove Kettle"]');
    await told(visited, '#total', /37\.50/);

    await page.click('#pay');
    expect(await told(visited, '#verdict', /Yours/)).toMatch(/3 × Lamp.*37\.50 paid/);
    expect(await textOf(visited, '#timeline')).toMatch(/sent.*Accepted \(202\).*ms.*WebSocket: completed.*ms/);
    await told(visited, '#timeline', /server-sent events: completed/);
    await page.waitForSelector('#basket-empty:not([hidden])');
    await expectAtPeace(visited);
  });

  it('says that a payment was declined, and gives the basket back', async () => {
    const visited = await visit('shop');
    const { page } = visited;
    await page.click('[aria-label="Add Rug to the basket"]');
    await told(visited, '#basket-count', /1 unit/);
    await page.click('.payment:has([value=tok_fail])');
    await page.click('#pay');
    expect(await told(visited, '#verdict', /funds/)).toMatch(/Insufficient funds.*Nothing was charged/);
    expect(await textOf(visited, '#timeline')).toMatch(/WebSocket: failed/);
    expect(await told(visited, '#lines', /Rug/)).toContain('12.50');
    await page.waitForSelector('#pay:not(:disabled)');
    await expectAtPeace(visited);
  });

  it('knows its basket again after a reload', async () => {
    const visited = await visit('shop');
    await visited.page.click('[aria-label="Add Kettle to the basket"]');
    await told(visited, '#basket-count', /1 unit/);
    await visited.page.reload();
    await told(visited, '#lines', /Kettle/);
    await expectAtPeace(visited);
  });

  it('finds what is on the page, and sells nothing that is sold out', async () => {
    const visited = await visit('shop');
    const { page } = visited;
    await page.type('#query', 'vas');
    await told(visited, '#found', /1 of the/);
    expect(await textOf(visited, '#products')).toContain('Vase');
    expect(await page.$eval('.product button', (button) => button.disabled)).toBe(true);
    await expectAtPeace(visited);
  });

  it('says in words what the shop refuses', async () => {
    const visited = await visit('shop');
    await visited.page.click('[aria-label="Add Rug to the basket"]');
    await told(visited, '#basket-count', /1 unit/);
    await fill(visited, '[aria-label="Quantity of Rug"]', '101');
    await told(visited, '#basket-error', /^Quantity exceeds available stock\.$/);
    await fill(visited, '[name=email]', 'nobody');
    await visited.page.click('#pay');
    await told(visited, '#checkout-error', /Email is invalid/);
  });
});

describe('the drop simulator', () => {
  it('sells exactly as many units as there are, and says so', async () => {
    const visited = await visit('drop');
    const { page } = visited;
    await fill(visited, '#units', '20');
    await fill(visited, '#buyers', '200');
    await page.select('#speed', '1');
    await page.click('#start');
    await told(visited, '#tally-title', /^Sold exactly 20 of 20$/);
    await page.waitForSelector('#tally[data-state=good]:not([hidden])');
    expect(await textOf(visited, '#figures')).toContain('oversold0');
    expect(await textOf(visited, '#books')).toMatch(
      /Of 20 units 20 are sold, 0 held .* 0 still for sale: that adds up/,
    );
    expect(await textOf(visited, '#left')).toBe('0');
    expect(await page.$$eval('.dots [data-stage=sold]', (dots) => dots.length)).toBe(20);
    expect(await page.$$eval('.dots i', (dots) => dots.length)).toBe(200);
    await expectAtPeace(visited);
    await eventually(async () => (await ledger.query('SELECT FROM order_states WHERE ended_at IS NULL')).length === 0);
    await expectNothingLeftOver(database.url);
  });

  it('can be stopped in the middle, and started anew', async () => {
    const visited = await visit('drop');
    const { page } = visited;
    await page.select('#speed', '50');
    await page.click('#start');
    await page.waitForSelector('#stage[data-phase=selling]');
    await page.click('#stop');
    await told(visited, '#race-error', /^Stopped/);
    await fill(visited, '#buyers', '5');
    await page.select('#speed', '1');
    await eventually(async () => {
      await page.click('#start');
      await page.waitForSelector('#start:not(:disabled)');
      return /^Sold \d of 50$/.test(await textOf(visited, '#tally-title'));
    });
  });
});

describe.each(['light', 'dark'] as const)('in %s colours', (scheme) => {
  it('can be read: all text stands out from what is behind it', async () => {
    const visited = await visit('shop', scheme);
    const { page } = visited;
    await page.click('[aria-label="Add Kettle to the basket"]');
    await told(visited, '#basket-count', /1 unit/);
    expect(await page.evaluate(faintTexts)).toEqual([]);
    await page.focus('#tab-shop');
    await page.keyboard.press('ArrowRight');
    await page.waitForSelector('#drop:not([hidden])');
    expect(await page.evaluate(faintTexts)).toEqual([]);
    const paper = String(await page.evaluate('getComputedStyle(document.body).backgroundColor'));
    expect(Number(/\d+/.exec(paper)?.[0]) > 127).toBe(scheme === 'light');
    await expectAtPeace(visited);
  });
});

async function post(path: string, body: unknown, options: RequestInit = {}): Promise<Response> {
  return fetch(`${shop.address}${path}`, {
    ...options,
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...options.headers },
    body: JSON.stringify(body),
  });
}

async function newDrop(units: number): Promise<string> {
  const made = await post('/demo/drops', { units });
  expect(made.status).toBe(201);
  const { id } = (await made.json()) as { id: string };
  return `/demo/drops/${id}`;
}

describe('what the simulator asks of the server', () => {
  it('runs one race at a time, and ends it when its page has gone', async () => {
    const drop = await newDrop(1_000);
    const leaving = new AbortController();
    const crowd = { buyers: 2_000, declined_percent: 0 };
    const first = await post(`${drop}/race`, crowd, { signal: leaving.signal });
    expect(first.status).toBe(200);
    expect((await post(`${drop}/race`, crowd)).status).toBe(409);
    leaving.abort();
    await eventually(async () => {
      const next = await post(`${drop}/race`, { buyers: 1, declined_percent: 0 });
      await next.text();
      return next.status === 200;
    });
  });

  it('gives units that a declined card held to somebody else', async () => {
    const drop = await newDrop(5);
    await (await post(`${drop}/race`, { buyers: 40, declined_percent: 50 })).text();
    const books = await (await fetch(`${shop.address}${drop}`)).json();
    expect(books).toMatchObject({ units: 5, sold: 5, held: 0, sellable: 0 });
  });

  it.each([{ units: 0 }, { units: 1_001 }, { units: 1.5 }, {}])('refuses a drop of %o', async (body) => {
    expect((await post('/demo/drops', body)).status).toBe(422);
  });

  it('refuses crowds that are too large, drops that are not there, and pages from elsewhere', async () => {
    const drop = await newDrop(1);
    expect((await post(`${drop}/race`, { buyers: 2_001, declined_percent: 0 })).status).toBe(422);
    expect((await post('/demo/drops/LAMP-1/race', { buyers: 1, declined_percent: 0 })).status).toBe(404);
    expect((await fetch(`${shop.address}/demo/drops/DROP-123456789012`)).status).toBe(404);
    const elsewhere = { headers: { Origin: 'https://elsewhere.example' } };
    expect((await post('/demo/drops', { units: 1 }, elsewhere)).status).toBe(403);
  });
});

describe('the files of the page', () => {
  it('allow nothing inline and nothing from elsewhere, and are not sent twice', async () => {
    const page = await fetch(`${shop.address}/demo`);
    const policy = page.headers.get('content-security-policy');
    expect(policy).toMatch(/^default-src 'none'; script-src 'self'; style-src 'self'; /);
    expect(policy).not.toContain('unsafe');
    expect(await page.text()).not.toMatch(/<style|style=|<script(?![^>]* src=)| on\w+=|https?:/);
    const again = { headers: { 'If-None-Match': String(page.headers.get('etag')) } };
    expect((await fetch(`${shop.address}/demo`, again)).status).toBe(304);
  });
});

test('the page is not there when it is off, and never in the description of the API', async () => {
  const off = await openTestShop({ DEMO: 'off' });
  for (const url of ['/demo', '/demo/demo.js', '/demo/drops/DROP-123456789012'])
    expect((await off.app.inject(url)).statusCode).toBe(404);
  await off.close();
  const described = await (await fetch(`${shop.address}/openapi.json`)).text();
  expect(described).not.toContain('/demo');
});
