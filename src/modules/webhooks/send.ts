import { type IncomingMessage, request as requestPlainly } from 'node:http';
import { request as requestSecurely } from 'node:https';
import { Webhook } from 'standardwebhooks';
import { isPrivateHost, lookupPublic, PrivateAddress } from './addresses.ts';
import type { WebhookMessage } from './message.ts';
import type { Recipient } from './webhooks.sql.ts';

/** What an endpoint answered, or why there is no answer. Its body is not read. */
export type Answer = Readonly<{ status: number }> | Readonly<{ failure: string }>;

export type SendOptions = Readonly<{ allowPrivate: boolean; deadlineMs: number; signal?: AbortSignal }>;

const mostUrlCharacters = 2_000;

/** What is wrong with `url` as the address of an endpoint, or null. A name is looked at when it is connected to. */
export function faultOfUrl(url: string, allowPrivate: boolean): string | null {
  if (!URL.canParse(url) || url.length > mostUrlCharacters)
    return `must be an absolute URL of at most ${mostUrlCharacters} characters`;
  const { protocol, hostname, port, username, password, hash } = new URL(url);
  if (username !== '' || password !== '' || hash !== '') return 'must have neither a user, a password nor a fragment';
  if (protocol !== 'https:' && !(allowPrivate && protocol === 'http:'))
    return allowPrivate ? 'must begin with https:// or http://' : 'must begin with https://';
  if (!allowPrivate && port !== '') return 'must not name a port: it is 443';
  if (!allowPrivate && isPrivateHost(hostname)) return 'must not lead to a private address';
  return null;
}

/**
 * Sends a message, signed, as the Standard Webhooks say. Answers with whatever came of it; no redirect is followed. Past
 * the deadline, or with the signal, nothing more is waited for.
 */
export async function send(
  recipient: Recipient,
  id: string,
  message: WebhookMessage,
  { allowPrivate, deadlineMs, signal }: SendOptions,
): Promise<Answer> {
  const fault = faultOfUrl(recipient.url, allowPrivate);
  if (fault !== null) return { failure: `the URL ${fault}` };
  const deadline = AbortSignal.timeout(deadlineMs);
  const signals = signal ? [deadline, signal] : [deadline];
  try {
    return { status: await post(recipient, id, JSON.stringify(message), AbortSignal.any(signals), allowPrivate) };
  } catch (error) {
    return { failure: deadline.aborted ? `no answer within ${deadlineMs} ms` : reasonOf(error) };
  }
}

function post(
  { url, secret }: Recipient,
  id: string,
  body: string,
  signal: AbortSignal,
  allowPrivate: boolean,
): Promise<number> {
  const request = new URL(url).protocol === 'https:' ? requestSecurely : requestPlainly;
  return new Promise((resolve, reject) => {
    const sent = request(url, {
      method: 'POST',
      headers: { ...headersOf(secret, id, body), 'content-length': Buffer.byteLength(body) },
      signal,
      agent: false,
      ...(allowPrivate ? {} : { lookup: lookupPublic }),
    });
    sent.on('error', reject);
    sent.on('response', (response: IncomingMessage) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
    sent.end(body);
  });
}

/** The time is that of sending: receivers refuse what is older than minutes. */
function headersOf(secret: string, id: string, body: string): Record<string, string> {
  const now = new Date();
  return {
    'content-type': 'application/json',
    'user-agent': 'ScaleCommerce-Webhooks',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': new Webhook(secret).sign(id, now, body),
  };
}

/** By its code: a message may quote the address, which may hold a secret of the receiver's. */
function reasonOf(error: unknown): string {
  if (error instanceof PrivateAddress) return error.message;
  if (error instanceof AggregateError) return reasonOf(error.errors[0]);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'the connection failed';
}
