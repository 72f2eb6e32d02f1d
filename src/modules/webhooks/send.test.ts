import type { LookupAddress, LookupAllOptions } from 'node:dns';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { openReceiver, type WebhookReceiver, withStatus } from '../../../test/support/webhook-receiver.ts';
import { faultOfUrl, type SendOptions, send } from './send.ts';

type LookupCallback = (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void;

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const message = { type: 'order.completed', timestamp: '2026-11-23T00:00:00.000Z', data: { name: 'Lämp 💡' } };
const here: SendOptions = { allowPrivate: true, deadlineMs: 10_000 };

/** A public name, by the looks of it, that leads to this machine. */
const disguised = 'inside.example';
vi.mock('node:dns', async (importOriginal) => {
  const dns = await importOriginal<typeof import('node:dns')>();
  const lookup = (hostname: string, options: LookupAllOptions, callback: LookupCallback): void =>
    dns.lookup(hostname === disguised ? '127.0.0.1' : hostname, options, callback);
  return { ...dns, lookup };
});

let receiver: WebhookReceiver;

beforeEach(async () => {
  receiver = await openReceiver();
});
afterEach(() => receiver.close());

const sendHere = (options: Partial<SendOptions> = {}) =>
  send({ url: receiver.url, secret }, 'the-id', message, { ...here, ...options });

it('signs what it sends, as the library of the standard verifies it', async () => {
  expect(await sendHere()).toEqual({ status: 204 });
  const [{ headers, body } = { headers: {}, body: '' }] = receiver.received;
  expect(headers).toMatchObject({ 'webhook-id': 'the-id', 'content-type': 'application/json' });
  expect(new Webhook(secret).verify(body, headers as Record<string, string>)).toEqual(message);
});

it('signs so that nothing of it can be changed, and nobody else can have signed it', async () => {
  await sendHere();
  const [{ headers, body } = { headers: {}, body: '' }] = receiver.received;
  const signed = headers as Record<string, string>;
  const verify = (changes: Record<string, string>, text = body, key = secret) =>
    new Webhook(key).verify(text, { ...signed, ...changes });
  expect(() => verify({}, body.replace('completed', 'cancelled'))).toThrow('No matching signature');
  expect(() => verify({ 'webhook-id': 'another' })).toThrow('No matching signature');
  expect(() => verify({}, body, `whsec_${Buffer.alloc(32, 8).toString('base64')}`)).toThrow('No matching signature');
  expect(() => verify({ 'webhook-timestamp': String(Math.floor(Date.now() / 1000) - 301) })).toThrow('too old');
});

it.each([200, 204, 400, 410, 500])('answers with the status %i of the receiver', async (status) => {
  receiver.answer(withStatus(status));
  expect(await sendHere()).toEqual({ status });
});

it('follows no redirect', async () => {
  receiver.answer((response) => void response.writeHead(307, { location: receiver.url }).end());
  expect(await sendHere()).toEqual({ status: 307 });
  expect(receiver.received).toHaveLength(1);
});

it('does not wait for the body of an answer', async () => {
  receiver.answer((response) => void response.writeHead(200).write('and so on'));
  expect(await sendHere()).toEqual({ status: 200 });
});

it('waits for an answer until its deadline', async () => {
  receiver.answer(() => undefined);
  expect(await sendHere({ deadlineMs: 50 })).toEqual({ failure: 'no answer within 50 ms' });
});

it('breaks off when it is told to', async () => {
  const stop = new AbortController();
  receiver.answer(() => stop.abort());
  expect(await sendHere({ signal: stop.signal })).toEqual({ failure: 'ABORT_ERR' });
});

it('says so when nobody listens, and when the connection is cut', async () => {
  const cutter = createServer((socket) => void socket.destroy()).listen(0, '127.0.0.1');
  await once(cutter, 'listening');
  const url = `http://127.0.0.1:${(cutter.address() as { port: number }).port}/`;
  expect(await send({ url, secret }, 'the-id', message, here)).toEqual({ failure: 'ECONNRESET' });
  cutter.close();
  await once(cutter, 'close');
  expect(await send({ url, secret }, 'the-id', message, here)).toEqual({ failure: 'ECONNREFUSED' });
});

it('makes no connection to a private address, whatever was allowed when its endpoint was made', async () => {
  const to = (url: string) => send({ url, secret }, 'the-id', message, { ...here, allowPrivate: false });
  expect(await to('https://127.0.0.1/')).toEqual({ failure: 'the URL must not lead to a private address' });
  expect(await to('https://localhost/')).toEqual({ failure: 'the URL must not lead to a private address' });
  expect(await to(`https://${disguised}/`)).toEqual({ failure: 'the address is not a public one' });
  expect(await to(receiver.url)).toEqual({ failure: 'the URL must begin with https://' });
  expect(receiver.received).toEqual([]);
});

it.each([
  ['shop.example', 'must be an absolute URL of at most 2000 characters'],
  [`https://shop.example/${'x'.repeat(2_000)}`, 'must be an absolute URL of at most 2000 characters'],
  ['ftp://shop.example', 'must begin with https://'],
  ['http://shop.example', 'must begin with https://'],
  ['https://ann@shop.example', 'must have neither a user, a password nor a fragment'],
  ['https://shop.example/#top', 'must have neither a user, a password nor a fragment'],
  ['https://shop.example:8443', 'must not name a port: it is 443'],
  ['https://10.1.2.3/hooks', 'must not lead to a private address'],
  ['https://0x7f.1/hooks', 'must not lead to a private address'],
  ['https://[fd00::1]/hooks', 'must not lead to a private address'],
])('%.40s is no address for an endpoint', (url, fault) => {
  expect(faultOfUrl(url, false)).toBe(fault);
});

it.each([
  'https://shop.example',
  'https://shop.example:443/hooks?of=mine',
  'https://1.1.1.1/',
  'https://[2606:4700::1]/',
])('%s is an address for an endpoint', (url) => {
  expect(faultOfUrl(url, false)).toBeNull();
});

it('takes HTTP, any port and private addresses where these are allowed, and nothing else', () => {
  expect(faultOfUrl('http://127.0.0.1:8080/hooks', true)).toBeNull();
  expect(faultOfUrl('https://10.0.0.1:8443/hooks', true)).toBeNull();
  expect(faultOfUrl('file:///etc/passwd', true)).toBe('must begin with https:// or http://');
});
