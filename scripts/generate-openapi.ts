import { pino } from 'pino';
import { buildApp } from '../src/app.ts';
import type { Resources } from '../src/resources.ts';
import { writeOrCheck } from './generated-file.ts';

// The routes are only described here, never called: there is nothing behind them.
const resources = {
  allowedOrigins: [],
  logger: pino({ level: 'silent' }),
  shop: {},
  config: { RESERVATION_STRATEGY: 'batched' },
} as unknown as Resources;
const app = await buildApp({ resources, worker: null, findObstacle: async () => null });
await app.ready();
await writeOrCheck('docs/openapi.json', `${JSON.stringify(app.swagger(), null, 2)}\n`);
await app.close();
