import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectSoon } from './support/expect-soon.ts';
import { faultsIn, type LoggedShop, openLoggedShop } from './support/logged-shop.ts';
import { answersOf, drip, exchange, open, type RawResponse } from './support/raw-http.ts';
import { addProduct } from './support/shop.ts';

let site: LoggedShop;
let port: number;
let lampId: string;

beforeAll(async () => {
  site = await openLoggedShop();
  lampId = await addProduct(site.shop);
  await site.app.listen({ host: '127.0.0.1', port: 0 });
  port = (site.app.server.address() as AddressInfo).port;
});
afterAll(() => site.close());

const write = 'POST /api/v1/shopping_basket/products HTTP/1.1';
const json = 'Content-Type: application/json';
const host = 'Host: shop.example';
const close = 'Connection: close';
const chunked = 'Transfer-Encoding: chunked';
const unreadable = 'The request cannot be read';

const message = (...head: string[]): string => `${head.join('\r\n')}\r\n\r\n`;
const get = (path: string, ...headers: string[]): string => message(`GET ${path} HTTP/1.1`, host, ...headers);
const post = (body: string, ...headers: string[]): string =>
  message(write, host, close, json, `Content-Length: ${Buffer.byteLength(body)}`, ...headers) + body;
const lamp = (): string => JSON.stringify({ product: { product_id: lampId, quantity: 1 } });

/** One error in the form of the contract, and the connection is closed after it. */
function expectOneError(responses: readonly RawResponse[], status: number, text?: string): void {
  expect(responses.map((response) => response.status)).toEqual([status]);
  for (const { headers, body } of responses) {
    expect(headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      connection: 'close',
    });
    expect(JSON.parse(body)).toEqual({ error: { code: status, messages: [text ?? expect.any(String)] } });
  }
}

async function expectOk(bytes: string, status = 200): Promise<void> {
  expect((await exchange(port, bytes)).map((response) => response.status)).toEqual([status]);
}

describe('a request that two programs may read differently', () => {
  it.each([
    ['both lengths', `${message(write, host, json, 'Content-Length: 4', chunked)}0\r\n\r\n`],
    ['both lengths the other way round', `${message(write, host, json, chunked, 'Content-Length: 4')}0\r\n\r\n`],
    ['two lengths', `${message(write, host, json, 'Content-Length: 2', 'Content-Length: 3')}{}`],
    ['the same length twice', `${message(write, host, json, 'Content-Length: 2', 'Content-Length: 2')}{}`],
    ['a list of lengths', `${message(write, host, json, 'Content-Length: 2, 2')}{}`],
    ['a length below zero', `${message(write, host, json, 'Content-Length: -2')}{}`],
    ['a length with a sign', `${message(write, host, json, 'Content-Length: +2')}{}`],
    ['a length in hexadecimal', `${message(write, host, json, 'Content-Length: 0x2')}{}`],
    ['a length beyond all numbers', `${message(write, host, json, `Content-Length: ${'9'.repeat(30)}`)}{}`],
    ['an unknown coding', `${message(write, host, json, 'Transfer-Encoding: xchunked')}0\r\n\r\n`],
    ['chunks that are not the last coding', `${message(write, host, json, `${chunked}, identity`)}0\r\n\r\n`],
    ['two codings', `${message(write, host, json, chunked, chunked)}0\r\n\r\n`],
    ['a chunk without a size', `${message(write, host, json, chunked)}zz\r\n{}\r\n0\r\n\r\n`],
    ['a chunk longer than its size', `${message(write, host, json, chunked)}1\r\n{}\r\n0\r\n\r\n`],
    [
      'a chunk extension without end',
      `${message(write, host, json, chunked)}2;${'a'.repeat(20_000)}\r\n{}\r\n0\r\n\r\n`,
    ],
    ['a folded header', get('/up', 'X-Note: a\r\n b')],
    ['a folded first header', message('GET /up HTTP/1.1', ` ${host}`)],
    ['a space before a colon', message('GET /up HTTP/1.1', 'Host : shop.example')],
    ['a NUL in a header', get('/up', 'X-Note: a\0b')],
    ['a bare CR in a header', get('/up', 'X-Note: a\rb')],
    ['bare line feeds', 'GET /up HTTP/1.1\nHost: shop.example\n\n'],
    ['a header without a name', get('/up', ': a')],
    ['a header without a colon', get('/up', 'X-Note')],
    ['a space in its target', get('/api/v1/pro ducts')],
    ['bytes beyond ASCII in its target', get('/api/v1/prod\u00fccts')],
    ['a target without a path', message('GET shop.example:80 HTTP/1.1', host)],
    ['a method that nobody knows', message('STEAL /up HTTP/1.1', host)],
    ['a method in small letters', message('get /up HTTP/1.1', host)],
    ['a version of the future', message('GET /up HTTP/3.7', host)],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['nothing of HTTP', '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003'],
  ])('is refused and its connection closed: %s', async (_, bytes) => {
    expectOneError(await exchange(port, bytes), 400, unreadable);
  });

  it.each(['gzip, chunked', 'GZIP,chunked', 'identity, chunked'])(
    'is refused and its connection closed: packed as %s',
    async (coding) => {
      const responses = await exchange(port, `${message(write, host, json, `Transfer-Encoding: ${coding}`)}0\r\n\r\n`);
      expectOneError(responses, 400, 'Transfer-Encoding can only be chunked');
    },
  );

  it.each([
    ['none', message('GET /up HTTP/1.1')],
    ['an empty one', message('GET /up HTTP/1.1', 'Host:')],
    ['two', get('/up', 'Host: evil.example')],
    ['the same twice', get('/up', host)],
    ['one with a path', message('GET /up HTTP/1.1', 'Host: shop.example/up')],
    ['one with a user', message('GET /up HTTP/1.1', 'Host: me@shop.example')],
    ['one with a space', message('GET /up HTTP/1.1', 'Host: shop.example evil.example')],
    ['one with a comma', message('GET /up HTTP/1.1', 'Host: shop.example,evil.example')],
    ['one with a port that is none', message('GET /up HTTP/1.1', 'Host: shop.example:http')],
    ['one of open brackets', message('GET /up HTTP/1.1', 'Host: [::1')],
    ['none, where nothing is', message('GET /nothing HTTP/1.1')],
    ['two, of a write', `${message(write, host, host, json, 'Content-Length: 2')}{}`],
  ])('is refused and its connection closed for its host: %s', async (_, bytes) => {
    expectOneError(await exchange(port, bytes), 400, 'The request needs exactly one valid Host header');
  });

  it.each([
    'shop.example',
    'SHOP.example:3000',
    'localhost',
    'my_shop',
    '127.0.0.1:80',
    '[::1]:3000',
    'xn--bcher-kva.example.',
  ])('is not one for the host %s', (name) => expectOk(message('GET /up HTTP/1.1', `Host: ${name}`, close)));

  it('is not one of HTTP/1.0 without a host', () => expectOk(message('GET /up HTTP/1.0')));
});

describe('a request that is too large', () => {
  const tooLarge = 'The request body is larger than 64 KB';

  it.each([
    ['in one header', get('/up', `X-Note: ${'a'.repeat(16_384)}`)],
    ['in many headers', get('/up', ...Array.from({ length: 1_000 }, (_, n) => `X-${n}: ${'a'.repeat(10)}`))],
    ['in its target', get(`/${'a'.repeat(16_384)}`)],
  ])('%s is refused', async (_, bytes) => {
    expectOneError(await exchange(port, bytes), 431, 'The request headers are larger than 16 KB');
  });

  it('in its body is refused before the body is read', async () => {
    const head = message(write, host, json, `Content-Length: ${1024 ** 3}`);
    expectOneError(await exchange(port, head), 413, tooLarge);
  });

  it('in chunks is refused when they exceed 64 KB', async () => {
    const chunk = `4000\r\n${' '.repeat(0x4000)}\r\n`;
    const head = message(write, host, json, chunked);
    expectOneError(await exchange(port, head + chunk.repeat(5)), 413, tooLarge);
    const body = lamp().padEnd(0x4000);
    const filled = `4000\r\n${body}\r\n${chunk.repeat(3)}0\r\n\r\n`;
    await expectOk(message(write, host, close, json, chunked) + filled, 201);
  });

  it.each(['/api/v1/products/', '/api/v2/products/', '/api/v2/orders/'])(
    'in the id of %s is refused without the database',
    async (path) => {
      const responses = await exchange(port, get(`${path}${'1'.repeat(10_000)}`, close));
      expectOneError(responses, 414, 'The address is too long');
    },
  );
});

describe('a request that takes its time', () => {
  let slow: LoggedShop;
  let slowPort: number;

  beforeAll(async () => {
    slow = await openLoggedShop();
    // Looked at anew with every check, which is once a second.
    slow.app.server.headersTimeout = 500;
    slow.app.server.requestTimeout = 1_000;
    await slow.app.listen({ host: '127.0.0.1', port: 0 });
    slowPort = (slow.app.server.address() as AddressInfo).port;
  });
  afterAll(() => slow.close());

  it.concurrent.each([
    ['headers', message('GET /up HTTP/1.1', host).trimEnd(), '\r\nX-Note: a'],
    ['a first line', 'GET /', 'a'],
    ['a body', message(write, host, json, 'Content-Length: 60000'), ' '],
    ['chunks', message(write, host, json, chunked), '1\r\n \r\n'],
    ['a body that nobody wants', message('POST /nothing HTTP/1.1', host, json, chunked), '1\r\n \r\n'],
    ['headers after an answer', `${message('GET /up HTTP/1.1', host)}GET /up`, 'a'],
  ])('for %s is refused with 408', async (what, head, drops) => {
    const responses = await drip(slowPort, head, drops);
    const [last] = responses.slice(-1);
    expect(responses).toHaveLength(what === 'headers after an answer' ? 2 : 1);
    expectOneError(last ? [last] : [], 408, 'The request took too long to arrive');
    expect(faultsIn(slow.lines)).toEqual([]);
  });

  it('has bounds in every shop', () => {
    const { headersTimeout, requestTimeout, timeout, keepAliveTimeout } = site.app.server;
    expect({ headersTimeout, requestTimeout, timeout, keepAliveTimeout }).toEqual({
      headersTimeout: 10_000,
      requestTimeout: 20_000,
      timeout: 60_000,
      keepAliveTimeout: 72_000,
    });
  });
});

describe('requests on one connection', () => {
  it('are answered in their order', async () => {
    const requests = get('/api/v1/products') + get('/nothing') + get('/up', close);
    const responses = await exchange(port, requests);
    expect(responses.map(({ status, body }) => [status, Object.keys(JSON.parse(body))])).toEqual([
      [200, ['page', 'pages', 'per_page', 'record_count', 'records']],
      [404, ['error']],
      [200, ['status']],
    ]);
  });

  it('are never answered with the error of what follows them', async () => {
    expect(await exchange(port, `${get('/api/v1/products')}nonsense\r\n\r\n`)).toEqual([]);
  });

  it('are answered once each', async () => {
    const socket = open(port);
    const answers = answersOf(socket);
    socket.write(message('DELETE /api/v1/products HTTP/1.1', host, json, chunked));
    await once(socket, 'data');
    socket.write('nonsense\r\n');
    expect((await answers).map((response) => response.status)).toEqual([405]);
  });
});

describe('a target or method out of the ordinary', () => {
  it.each(['TRACE', 'PURGE', 'QUERY', 'MKCALENDAR'])('%s is refused with what is allowed', async (method) => {
    const responses = await exchange(
      port,
      message(`${method} /api/v1/products HTTP/1.1`, host, 'X-Secret: abc', close),
    );
    expectOneError(responses, 405, `${method} is not allowed here; use GET or HEAD`);
    expect(responses[0]?.headers.allow).toBe('GET, HEAD, OPTIONS');
  });

  it('CONNECT is refused with what is allowed', async () => {
    const responses = await exchange(port, message('CONNECT evil.example:443 HTTP/1.1', 'Host: evil.example:443'));
    expectOneError(responses, 405, 'CONNECT is not allowed here');
    expect(responses[0]?.headers.allow).toBe('GET, HEAD, POST, OPTIONS');
  });

  it.each(['http://evil.example/up', 'https://shop.example/up?a=1', '/up#a', '/up?a=%', '/up?a;b', '/up/'])(
    '%s is the resource of its path, whatever the host',
    (target) => expectOk(get(target, close)),
  );

  it.each(['*', '//evil.example/up', 'ftp://shop.example/up', '/../up', '/up;a', '/%2e%2e/up', '/\\up'])(
    '%s is nothing',
    async (target) => expectOneError(await exchange(port, get(target, close)), 404, 'Not found'),
  );

  it.each([
    'X-HTTP-Method-Override: DELETE',
    'X-Forwarded-Host: evil.example',
    'X-Forwarded-For: 127.0.0.1',
    'X-Forwarded-Proto: gopher',
    'X-Original-URL: /nothing',
    'X-Rewrite-URL: /nothing',
    'Expect: 200-ok',
    'Content-Type: text/plain',
  ])('%s is ignored', async (header) => {
    const [response] = await exchange(port, post(lamp(), header));
    expect([response?.status, response?.body]).toEqual([201, expect.stringContaining('"total_price":{"cents":1000')]);
  });

  it('a forged host does not make a foreign page ours', async () => {
    const headers = ['Origin: https://evil.example', 'X-Forwarded-Host: evil.example', 'Forwarded: host=evil.example'];
    const responses = await exchange(port, post(lamp(), ...headers));
    expectOneError(responses, 403);
  });

  it('Expect: 100-continue is honoured', async () => {
    const responses = await exchange(port, post(lamp(), 'Expect: 100-continue'));
    expect(responses.map((response) => response.status)).toEqual([100, 201]);
  });

  it('an offer of HTTP/2 is passed over, also where WebSockets are taken', async () => {
    const asked: Array<string | undefined> = [];
    const takeOver = (request: { headers: { upgrade?: string } }, socket: { destroy(): void }): void => {
      asked.push(request.headers.upgrade);
      socket.destroy();
    };
    const offer = (protocol: string): string => get('/up', 'Connection: Upgrade, close', `Upgrade: ${protocol}`);
    await expectOk(offer('websocket'));
    site.app.server.on('upgrade', takeOver);
    await expectOk(offer('h2c'));
    expect(await exchange(port, offer('WebSocket'))).toEqual([]);
    site.app.server.off('upgrade', takeOver);
    expect(asked).toEqual(['WebSocket']);
  });
});

describe('a body', () => {
  it('of invalid UTF-8 is refused', async () => {
    const head = message(write, host, close, json, 'Content-Length: 4');
    const responses = await exchange(port, Buffer.concat([Buffer.from(head), Buffer.from([0x22, 0xff, 0xfe, 0x22])]));
    expectOneError(responses, 400, 'Invalid JSON in the request body');
  });

  it.each(['application/json\t;a', ' application/json', 'APPLICATION/JSON\t', 'application/json;;'])(
    'is validated whatever its type looks like: %j',
    async (type) => {
      const body = lamp().replace('1}', '"1"}');
      const bytes = message(write, host, close, `Content-Type:${type}`, `Content-Length: ${body.length}`) + body;
      expectOneError(await exchange(port, bytes), 422, 'Quantity must be an integer');
    },
  );

  it.each(['application/json\u000b', 'application/json\u0000'])('of type %j is none', async (type) => {
    const bytes = `${message(write, host, close, `Content-Type: ${type}`, 'Content-Length: 2')}{}`;
    expectOneError(await exchange(port, bytes), 400, unreadable);
  });

  it('may be empty, and then lacks what it should hold', async () => {
    expectOneError(await exchange(port, post('')), 400, 'Missing parameter: product');
    const bare = message(write, host, close);
    expectOneError(await exchange(port, bare), 400, 'Missing parameter: product');
  });

  describe.each([
    ['that is no JSON', '{"product":', 'Invalid JSON in the request body'],
    ['with a byte order mark', '\ufeff{}', 'Invalid JSON in the request body'],
    ['that forges a prototype', '{"__proto__":{}}', 'The request body has a key that is not allowed'],
  ])('%s', (_, body, text) => {
    const broken = message(write, host, json, `Content-Length: ${Buffer.byteLength(body)}`) + body;

    it('is refused, and the connection goes on', async () => {
      const [refusal, ...rest] = await exchange(port, broken + get('/up', close));
      expect([refusal?.status, JSON.parse(refusal?.body ?? '')]).toEqual([
        400,
        { error: { code: 400, messages: [text] } },
      ]);
      expect(refusal?.headers.connection).not.toBe('close');
      expect(rest.map(({ status }) => status)).toEqual([200]);
    });

    it('does not save the connection from what follows it and is no request', async () => {
      const responses = await exchange(port, `${broken}nonsense\r\n\r\n`);
      for (const { status, headers } of responses.slice(1))
        expect([status, headers.connection]).toEqual([400, 'close']);
      expect(responses.length).toBeLessThanOrEqual(2);
    });
  });

  it('that breaks off changes nothing and is no fault of the program', async () => {
    const connections = (): Promise<number> =>
      new Promise((resolve, reject) =>
        site.app.server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      );
    const handled = once(site.app.server, 'request');
    const socket = open(port);
    socket.write(`${message(write, host, json, 'Content-Length: 500')}{"product"`);
    await handled;
    socket.destroy();
    await expectSoon(connections).toBe(0);
    expect(faultsIn(site.lines)).toEqual([]);
  });
});

describe('the server', () => {
  it('serves on after all of this, and has logged no fault', async () => {
    await expectOk(get('/up', close));
    expect(faultsIn(site.lines)).toEqual([]);
    expect(site.lines.join('')).not.toMatch(/evil|abc/);
  });
});
