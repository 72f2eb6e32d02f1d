/**
 * A crowd of shoppers, as a process of the benchmark: kept-alive connections that check out one basket after the other,
 * as fast as they are answered or at a given rate. It speaks just enough HTTP, with requests that are ready before the
 * start: on a shared machine every microsecond it takes is the server's.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { answerParent } from './checkout/child.ts';
import { type LoadAnswer, type LoadQuestion, latencyOf } from './checkout/messages.ts';

type Shopper = { readonly socket: Socket; onAnswer: (head: string) => void };
type Records = { latenciesMs: number[]; latesMs: number[]; answersByStatus: Record<string, number> };

const body = JSON.stringify({
  payment_token: 'tok_success',
  email: 'shopper@example.com',
  address: { line_1: '1 Main St', city: 'Springfield', state: 'IL', zip: '62701', country: 'US' },
});
const unknownToken = '00000000-0000-7000-8000-000000000000';
const checkoutText = requestText('checkout', `Authorization: Bearer ${unknownToken}\r\n`, body);
const tokenAt = checkoutText.indexOf(unknownToken);
const checkoutRequest = Buffer.from(checkoutText, 'latin1');
/** One for all: a chunk is looked at before the next is read. */
const chunk = Buffer.allocUnsafe(16 * 1_024);

answerParent<LoadQuestion>(run, async () => undefined);

async function run(question: LoadQuestion): Promise<LoadAnswer> {
  const { port, connections, perSecond, tokens } = question;
  const shoppers = await Promise.all(Array.from({ length: connections }, () => enter(port)));
  const records: Records = { latenciesMs: [], latesMs: [], answersByStatus: {} };
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  if (perSecond === null) await inClosedLoop(shoppers, question, records);
  else await inOpenLoop(shoppers, tokens, perSecond, records);
  const seconds = (performance.now() - startMs) / 1_000;
  const { user, system } = process.cpuUsage(cpuBefore);
  for (const { socket } of shoppers) socket.destroy();
  return {
    seconds,
    answersByStatus: records.answersByStatus,
    latencyMs: latencyOf(records.latenciesMs),
    lateMs: latencyOf(records.latesMs),
    cpuSeconds: (user + system) / 1e6,
  };
}

/** One connection, kept open. A shopper has one request under way at most. */
async function enter(port: number): Promise<Shopper> {
  let received = '';
  const onChunk = (size: number, bytes: Uint8Array): boolean => {
    received += (bytes as Buffer).toString('latin1', 0, size);
    const headEnd = received.indexOf('\r\n\r\n');
    if (headEnd < 0 || received.length < headEnd + 4 + bodyLength(received)) return true;
    const head = received;
    received = '';
    shopper.onAnswer(head);
    return true;
  };
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread: { buffer: chunk, callback: onChunk } });
  const shopper: Shopper = { socket, onAnswer: () => undefined };
  await once(socket, 'connect');
  socket.on('error', failWith);
  socket.on('close', (hadError) => hadError && failWith(new Error('A connection was lost')));
  return shopper;
}

function failWith(error: Error): never {
  throw error;
}

function bodyLength(head: string): number {
  const at = head.indexOf('content-length: ');
  return at < 0 ? 0 : Number.parseInt(head.slice(at + 16, at + 22), 10);
}

function inClosedLoop(shoppers: readonly Shopper[], question: LoadQuestion, records: Records): Promise<void> {
  const left = [...question.tokens];
  const first = question.journeyProductId === null ? null : firstStep(question.journeyProductId);
  let shopping = shoppers.length;
  return new Promise((resolve) => {
    const goOn = (shopper: Shopper): void => {
      const token = left.pop();
      if (token === undefined) {
        if (--shopping === 0) resolve();
      } else if (first === null) checkOut(shopper, token, performance.now(), records, goOn);
      else {
        fillBasket(shopper, first, records, goOn);
      }
    };
    for (const shopper of shoppers) goOn(shopper);
  });
}

/**
 * Requests are due at fixed times. One whose time has come while every shopper still waits for an answer is sent late,
 * and its latency counts from when it was due.
 */
function inOpenLoop(
  shoppers: readonly Shopper[],
  tokens: readonly string[],
  perSecond: number,
  records: Records,
): Promise<void> {
  const idle = [...shoppers];
  const startMs = performance.now();
  let sent = 0;
  return new Promise((resolve) => {
    const sendDue = (): void => {
      const due = Math.min(tokens.length, Math.floor(((performance.now() - startMs) * perSecond) / 1_000));
      for (let shopper = sent < due ? idle.pop() : undefined; shopper; shopper = sent < due ? idle.pop() : undefined) {
        checkOut(shopper, tokens[sent] ?? '', startMs + (sent * 1_000) / perSecond, records, (free) => {
          idle.push(free);
          if (sent === tokens.length && idle.length === shoppers.length) resolve();
        });
        sent++;
      }
      if (sent < tokens.length) setTimeout(sendDue, 1);
    };
    sendDue();
  });
}

function checkOut(
  shopper: Shopper,
  token: string,
  dueMs: number,
  records: Records,
  goOn: (shopper: Shopper) => void,
): void {
  const request = Buffer.from(checkoutRequest);
  request.write(token, tokenAt, 'latin1');
  shopper.onAnswer = (head) => {
    if (count(records, head) === '202') records.latenciesMs.push(performance.now() - dueMs);
    goOn(shopper);
  };
  records.latesMs.push(performance.now() - dueMs);
  shopper.socket.write(request);
}

/** A journey ends here when the shop has no basket to give. */
function fillBasket(shopper: Shopper, request: Buffer, records: Records, goOn: (shopper: Shopper) => void): void {
  shopper.onAnswer = (head) => {
    const token = /shopping-basket-id: ([\da-f-]{36})/i.exec(head)?.[1];
    if (token) checkOut(shopper, token, performance.now(), records, goOn);
    else {
      count(records, head);
      goOn(shopper);
    }
  };
  shopper.socket.write(request);
}

/** Returns the status. */
function count({ answersByStatus }: Records, head: string): string {
  const status = head.slice(9, 12);
  answersByStatus[status] = (answersByStatus[status] ?? 0) + 1;
  return status;
}

function firstStep(productId: string): Buffer {
  return Buffer.from(requestText('products', '', JSON.stringify({ product: { product_id: productId, quantity: 1 } })));
}

function requestText(path: string, headers: string, json: string): string {
  return `POST /api/v2/shopping_basket/${path} HTTP/1.1\r\nHost: shop\r\n${headers}Content-Type: application/json\r\nContent-Length: ${json.length}\r\n\r\n${json}`;
}
