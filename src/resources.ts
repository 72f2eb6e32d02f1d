import { type Logger, pino } from 'pino';
import { type FanOut, inProcessFanOut } from './modules/notifications/fan-out.ts';
import { type Notifications, openNotifications } from './modules/notifications/notifications.service.ts';
import { openPostgresFanOut } from './modules/notifications/postgres-fan-out.ts';
import { type PaymentGateway, withDeadline } from './modules/payments/payments.service.ts';
import { openSimulatedGateway } from './modules/payments/simulated-gateway.ts';
import { ensureShop, type Shop } from './modules/shop/shop.service.ts';
import { type Config, hasDemo, originsOf } from './platform/config.ts';
import { type Database, type DatabaseOptions, openDatabase, type Reader } from './platform/db.ts';
import { reportRarely } from './platform/report-rarely.ts';
import { readFaultRates } from './shared/gateway-faults.ts';

/** All that the shop runs on, opened from the configuration. */
export type Resources = Readonly<{
  config: Config;
  allowedOrigins: readonly string[];
  hasDemo: boolean;
  logger: Logger;
  onError: (error: Error) => void;
  /** For what keeps connections of its own. */
  databaseUrl: string;
  /** Writes and the reads that decide something. */
  database: Database;
  /** For transactions of many requests: they give up on a lock soon. */
  batchDatabase: Database;
  /** Apart from the requests' connections: a stampede on those must not keep a worker from renewing its lease. */
  workerDatabase: Database;
  /** Reads that only show something. */
  reader: Reader;
  shop: Shop;
  gateway: PaymentGateway;
  notifications: Notifications;
  close: () => Promise<void>;
}>;

/** Outcomes are passed on at once; the table is the safety net for those that are lost on the way. */
const lookForOutcomesMs = 1_000;

/** Two batches of checkouts, two of basket writes, and two for those who look for held rows or have waited for them. */
const batchConnections = 6;

/** A batch waits no longer than this for a row: all of its members wait with it. */
const batchLockTimeoutMs = 200;

/** After that the outcome of a call to the gateway is unknown. Below the lease of the worker that waits for it. */
const gatewayDeadlineMs = 8_000;

/** Where the database's errors quote whole rows: addresses, tokens. */
const secretFields = { paths: ['err.detail', 'err.where', 'err.internalQuery'], remove: true };

/** Opens what `config` names, on the migrated database at `databaseUrl`. Close it when done. */
export async function openResources(config: Config, databaseUrl: string): Promise<Resources> {
  const logger = pino({ level: config.LOG_LEVEL, redact: secretFields }, pino.destination({ dest: 2, sync: false }));
  const onError = reportRarely((error, untold) => logger.error({ err: error, untold }, error.message));
  const open = (
    name: string,
    connections: number,
    more: Pick<DatabaseOptions, 'readOnly' | 'plans' | 'lockTimeoutMs'>,
  ) => openDatabase({ url: databaseUrl, name, connections, waiting: 5_000, onError, ...more });
  const database = open('engine', 12, { plans: 'once' });
  const batchDatabase = open('batches', batchConnections, { plans: 'once', lockTimeoutMs: batchLockTimeoutMs });
  const workerDatabase = open('worker', 4, { plans: 'once', lockTimeoutMs: batchLockTimeoutMs });
  const reader = open('reads', 8, { readOnly: true });
  const gateway = openGateway(config, databaseUrl, onError);
  const fanOutDatabase = open('fan-out', 1, { plans: 'once' });
  const fanOut = openFanOut(config, databaseUrl, fanOutDatabase, onError);
  const notifications = openNotifications({ reader, fanOut, pollMs: lookForOutcomesMs, onError });
  const close = async (): Promise<void> => {
    notifications.stop();
    await fanOut.close();
    await fanOutDatabase.close();
    await gateway.close();
    await reader.close();
    await workerDatabase.close();
    await batchDatabase.close();
    await database.close();
  };
  const shop = await ensureShop(database, { currency: config.CURRENCY, secretKey: config.SECRET_KEY }).catch(
    async (error: Error) => {
      await close();
      throw error;
    },
  );
  const allowedOrigins = originsOf(config.ALLOWED_ORIGINS);
  const base = { config, allowedOrigins, hasDemo: hasDemo(config), logger, onError, databaseUrl, shop, close };
  return { ...base, database, batchDatabase, workerDatabase, reader, gateway, notifications };
}

/** A process that only works has nobody to tell, and does not listen. */
function openFanOut(config: Config, databaseUrl: string, database: Database, onError: (error: Error) => void): FanOut {
  if (config.EVENT_FAN_OUT === 'in_process') return inProcessFanOut;
  const listenUrl = config.ROLE === 'worker' ? null : (config.DATABASE_DIRECT_URL ?? databaseUrl);
  return openPostgresFanOut({ database, listenUrl, onError });
}

/** Opens the gateway that `config` names; the simulated one keeps its book in the database at `databaseUrl`. */
export function openGateway(config: Config, databaseUrl: string, onError: (error: Error) => void): PaymentGateway {
  const simulated = openSimulatedGateway({
    journal: openDatabase({
      url: databaseUrl,
      name: 'simulated gateway',
      connections: 6,
      waiting: 5_000,
      plans: 'once',
      onError,
    }),
    latencyMs: config.SIMULATED_GATEWAY_LATENCY_MS,
    rates: readFaultRates(config.SIMULATED_GATEWAY_FAULTS).rates,
    seed: config.SIMULATED_GATEWAY_SEED,
    onSplit: (error) => onError(error as Error),
  });
  return withDeadline(simulated, gatewayDeadlineMs);
}
