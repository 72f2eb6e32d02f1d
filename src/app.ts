import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { healthRoutes } from './http/health.ts';
import { answerEveryMethod } from './http/methods.ts';
import { describeApi, referencePage } from './http/reference.ts';
import { createServer } from './http/server.ts';
import { basketRoutes } from './modules/basket/basket.routes.ts';
import { openBaskets } from './modules/basket/basket.service.ts';
import { catalogRoutes } from './modules/catalog/catalog.routes.ts';
import { checkoutRoutes } from './modules/checkout/checkout.routes.ts';
import type { OrderDesk } from './modules/checkout/checkout.service.ts';
import { reservationStrategies } from './modules/checkout/reservation.ts';
import { demoRoutes } from './modules/demo/demo.routes.ts';
import { orderEventRoutes } from './modules/notifications/order-events.routes.ts';
import { untilNextEvent } from './modules/notifications/order-events.ts';
import { orderRoutes, type UntilChanged } from './modules/orders/orders.routes.ts';
import type { Resources } from './resources.ts';

export type AppOptions = Readonly<{
  resources: Resources;
  /** The worker of this process, if it has one: accepted orders are handed to it. */
  worker: OrderDesk | null;
  /** Why no new requests should be sent here, or null. */
  findObstacle: () => Promise<string | null>;
}>;

/** The HTTP application, not listening yet. */
export async function buildApp({ resources, worker, findObstacle }: AppOptions): Promise<FastifyInstance> {
  const { config, allowedOrigins, hasDemo, database, batchDatabase, reader, notifications, logger, onError } =
    resources;
  const { currency, pageKeySecret, orderNumberKey, ticketKey } = resources.shop;
  const onSplit = (error: unknown): void => onError(error as Error);
  const app = createServer({ logger, allowedOrigins });
  const refuseOtherMethods = answerEveryMethod(app);
  await app.register(swagger, describeApi());

  healthRoutes(app, findObstacle);
  catalogRoutes(app, { reader, currency, pageKeySecret });
  basketRoutes(app, openBaskets({ database, batchDatabase, reader, currency, onSplit }));
  const acceptance = { currency, orderNumberKey, holdSeconds: config.HOLD_TTL_S };
  const reserve = reservationStrategies[config.RESERVATION_STRATEGY]({
    database,
    batchDatabase,
    acceptance,
    onSplit,
  });
  checkoutRoutes(app, { reserve, reader, notifications, worker, onError, waiting: 0 }, ticketKey);
  const untilChanged: UntilChanged = (order, signal) => untilNextEvent(notifications, order, signal);
  orderRoutes(app, { reader, ticketKey, untilChanged });
  orderEventRoutes(app, { reader, notifications, ticketKey, onError });
  if (hasDemo) await demoRoutes(app, { database, currency });
  await referencePage(app);

  refuseOtherMethods();
  return app;
}
