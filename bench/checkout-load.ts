/**
 * A shopper crowd in a process of its own: so many kept-alive connections, each checking out the next basket as soon as
 * its last answer is there. Usage: checkout-load.ts PORT CONNECTIONS, one basket token a line on standard input; prints
 * one line of JSON. It speaks just enough HTTP: on a shared machine every microsecond it takes is the server's.
 */
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';

const port = Number(process.argv[2]);
const connections = Number(process.argv[3]);
const tokens = (await text(process.stdin)).trim().split('\n');

const body = JSON.stringify({
  payment_token: 'tok_success',
  email: 'shopper@example.com',
  address: { line_1: '1 Main St', city: 'Springfield', state: 'IL', zip: '62701', country: 'US' },
});
const answersByStatus: Record<string, number> = {};
const latenciesMs: number[] = [];

const startMs = performance.now();
await Promise.all(Array.from({ length: connections }, shop));
const seconds = (performance.now() - startMs) / 1_000;
latenciesMs.sort((a, b) => a - b);
console.log(
  JSON.stringify({
    perSecond: Math.round(latenciesMs.length / seconds),
    answersByStatus,
    p50Ms: Math.round(percentile(50)),
    p99Ms: Math.round(percentile(99)),
  }),
);

/** Checks out baskets on one connection until none is left. */
async function shop(): Promise<void> {
  const socket = connect(port, '127.0.0.1').setNoDelay(true);
  for (let token = tokens.pop(); token; token = tokens.pop()) {
    const sentMs = performance.now();
    socket.write(requestFor(token));
    const status = await nextStatus(socket);
    latenciesMs.push(performance.now() - sentMs);
    answersByStatus[status] = (answersByStatus[status] ?? 0) + 1;
  }
  socket.destroy();
}

function requestFor(token: string): string {
  return `POST /api/v2/shopping_basket/checkout HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** The status of the next answer, once all of it has arrived. */
function nextStatus(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = '';
    const onData = (chunk: Buffer): void => {
      received += chunk.toString('latin1');
      const headEnd = received.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(received)?.[1]);
      if (headEnd < 0 || received.length < headEnd + 4 + length) return;
      socket.off('data', onData).off('error', reject);
      resolve(received.slice(9, 12));
    };
    socket.on('data', onData).on('error', reject);
  });
}

function percentile(share: number): number {
  return latenciesMs[Math.floor((latenciesMs.length * share) / 100)] ?? Number.NaN;
}
