import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { EventFigures } from '../modules/notifications/notifications.service.ts';
import { countOpenOrders } from '../modules/orders/order-desk.service.ts';
import type { Reader } from '../platform/db.ts';
import type { Family } from '../platform/exposition.ts';
import { type Collector, openMetrics } from '../platform/metrics.ts';
import type { Resources } from '../resources.ts';
import { localAddress } from './address.ts';

export type MetricsServer = Readonly<{
  /** Where Prometheus is to look. */
  address: string;
  close: () => Promise<void>;
}>;

/** However many look, and however often: counting is work for the database. */
const countedEveryMs = 5_000;
const mostConnections = 50;
const requestTimeoutMs = 5_000;

/** Serves `GET /metrics` on `METRICS_PORT`, apart from the shop's own port; null when that is not set. */
export async function serveMetrics(resources: Resources): Promise<MetricsServer | null> {
  const { config, reader, notifications, onError } = resources;
  if (config.METRICS_PORT === undefined) return null;
  const metrics = openMetrics([orderCollector(reader), () => eventFamilies(notifications.figures())]);
  const server = createServer({ requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs });
  server.maxConnections = mostConnections;
  server.on('request', (request, response) => {
    answer(request, response, metrics).catch((error: Error) => {
      onError(error);
      response.writeHead(500).end();
    });
  });
  server.listen(config.METRICS_PORT, config.HOST);
  await once(server, 'listening');
  return {
    address: `${localAddress(config.HOST, (server.address() as AddressInfo).port)}/metrics`,
    close: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  metrics: () => Promise<string>,
): Promise<void> {
  if (request.url?.replace(/\?.*$/, '') !== '/metrics') {
    response.writeHead(404).end();
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { Allow: 'GET, HEAD' }).end();
  } else {
    const text = await metrics();
    response.writeHead(200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' });
    response.end(text);
  }
}

/** While the database does not answer, these are not known, and the others are served all the same. */
function orderCollector(reader: Reader): Collector {
  const known = keptFor(countedEveryMs, () => countOpenOrders(reader).catch(() => null));
  return async () => {
    const counts = await known();
    const gauge = (name: string, help: string, value: number | undefined): Family => ({
      name: `scalecommerce_orders_${name}`,
      help,
      type: 'gauge',
      series: value === undefined ? [] : [[{}, value]],
    });
    return [
      gauge('open', 'Orders that are not over yet.', counts?.open),
      gauge('unanswered', 'Open orders of which the latest call to the gateway has no answer.', counts?.unanswered),
      gauge('parked', 'Open orders that wait for an operator.', counts?.parked),
    ];
  };
}

function eventFamilies({ published, received, dropped, found, watchers, isListening }: EventFigures): Family[] {
  const family = (name: string, type: 'counter' | 'gauge', value: number | null, help: string): Family => ({
    name: `scalecommerce_events_${name}`,
    help,
    type,
    series: value === null ? [] : [[{}, value]],
  });
  return [
    family('published_total', 'counter', published, 'Events that this process has told the others of.'),
    family('received_total', 'counter', received, 'Events that others have told this process of.'),
    family(
      'dropped_total',
      'counter',
      dropped,
      'Events that the others were not told of: they find them in the table.',
    ),
    family(
      'found_total',
      'counter',
      found,
      'Events that the looks into the table found, since no notification had told of them.',
    ),
    family('watchers', 'gauge', watchers, 'Subscriptions and requests that wait for events of a basket.'),
    family('listening', 'gauge', isListening === null ? null : Number(isListening), 'Whether others are heard now.'),
  ];
}

/** What `read` gave, for `ms` from when it was asked; many who ask together share one answer. */
function keptFor<T>(ms: number, read: () => Promise<T>): () => Promise<T> {
  let kept: Promise<T> | null = null;
  let askedAtMs = 0;
  return () => {
    if (kept && performance.now() - askedAtMs < ms) return kept;
    askedAtMs = performance.now();
    kept = read();
    return kept;
  };
}
