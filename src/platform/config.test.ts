import { describe, expect, it } from 'vitest';
import { configSchema, hasDemo, InvalidConfig, originsOf, readConfig } from './config.ts';

const secret = 'a-secret-that-nobody-must-ever-see';

function faultsOf(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment);
  } catch (error) {
    if (error instanceof InvalidConfig) return error.faults;
    throw error;
  }
  return [];
}

describe('a configuration', () => {
  it('is complete with nothing set', () => {
    expect(readConfig({})).toEqual({
      PORT: 3000,
      HOST: '127.0.0.1',
      DRAIN_DELAY_S: 0,
      DATA_DIR: '.data',
      ROLE: 'all',
      RESERVATION_STRATEGY: 'batched',
      EVENT_FAN_OUT: 'postgres',
      PAYMENT_GATEWAY: 'simulated',
      SIMULATED_GATEWAY_LATENCY_MS: 0,
      SIMULATED_GATEWAY_FAULTS: '',
      SIMULATED_GATEWAY_SEED: 1,
      HOLD_TTL_S: 600,
      SEED_PRODUCTS: 10_000,
      DEMO: 'auto',
      CURRENCY: 'USD',
      ALLOWED_ORIGINS: '',
      WEBHOOK_ALLOW_PRIVATE: 'false',
      LOG_LEVEL: 'info',
    });
  });

  it('takes every variable from the environment, numbers as numbers, and nothing else', () => {
    const set = {
      PORT: '0',
      HOST: '0.0.0.0',
      DRAIN_DELAY_S: '15',
      METRICS_PORT: '9464',
      DATABASE_URL: 'postgres://shop@db.internal:5432/shop',
      DATABASE_DIRECT_URL: 'postgresql://shop@db.internal/shop',
      DATA_DIR: '/var/lib/shop',
      ROLE: 'web',
      RESERVATION_STRATEGY: 'pessimistic',
      EVENT_FAN_OUT: 'in_process',
      PAYMENT_GATEWAY: 'simulated',
      SIMULATED_GATEWAY_LATENCY_MS: '250',
      SIMULATED_GATEWAY_FAULTS: 'lost_answer=0.05, slow=0.1',
      SIMULATED_GATEWAY_SEED: '7',
      HOLD_TTL_S: '30',
      SEED_PRODUCTS: '0',
      DEMO: 'on',
      SECRET_KEY: secret,
      CURRENCY: 'EUR',
      ALLOWED_ORIGINS: 'https://shop.example, http://localhost:8080',
      WEBHOOK_ALLOW_PRIVATE: 'true',
      LOG_LEVEL: 'debug',
    };
    expect(Object.keys(set).sort()).toEqual(Object.keys(configSchema.properties).sort());
    expect(readConfig({ ...set, PATH: '/bin' })).toEqual({
      ...set,
      PORT: 0,
      DRAIN_DELAY_S: 15,
      METRICS_PORT: 9464,
      SIMULATED_GATEWAY_LATENCY_MS: 250,
      SIMULATED_GATEWAY_SEED: 7,
      HOLD_TTL_S: 30,
      SEED_PRODUCTS: 0,
    });
  });

  it('takes an empty variable for one that is not set', () => {
    const empty = Object.fromEntries(Object.keys(configSchema.properties).map((name) => [name, '']));
    expect(readConfig(empty)).toEqual(readConfig({}));
  });

  it('reports every fault at once, each with its variable and what it may be', () => {
    const faults = faultsOf({
      PORT: '65536',
      METRICS_PORT: '-1',
      DATABASE_URL: 'mysql://shop/',
      ROLE: 'boss',
      PAYMENT_GATEWAY: 'mattress',
      SIMULATED_GATEWAY_LATENCY_MS: '-1',
      SIMULATED_GATEWAY_FAULTS: 'lost=0.1,slow=2',
      SIMULATED_GATEWAY_SEED: '-1',
      HOLD_TTL_S: '0',
      SEED_PRODUCTS: 'many',
      DEMO: 'yes',
      SECRET_KEY: 'short',
      CURRENCY: 'usd',
      ALLOWED_ORIGINS: 'https://shop.example,shop.example',
      LOG_LEVEL: 'loud',
    });
    expect(faults).toEqual([
      'PORT="65536": must be a whole number from 0 to 65535',
      'METRICS_PORT="-1": must be a whole number from 0 to 65535',
      'DATABASE_URL=(hidden): must be a postgres:// address with a host and a database',
      'ROLE="boss": must be one of all, web, worker',
      'PAYMENT_GATEWAY="mattress": must be one of simulated',
      'SIMULATED_GATEWAY_LATENCY_MS="-1": must be a whole number from 0 to 60000',
      'SIMULATED_GATEWAY_SEED="-1": must be a whole number from 0 to 2147483647',
      'HOLD_TTL_S="0": must be a whole number from 1 to 86400',
      'SEED_PRODUCTS="many": must be a whole number from 0 to 10000000',
      'DEMO="yes": must be one of on, off, auto',
      'SECRET_KEY=(hidden): must be text of at least 16 characters',
      'CURRENCY="usd": must be three capital letters',
      'LOG_LEVEL="loud": must be one of fatal, error, warn, info, debug, trace, silent',
      'ALLOWED_ORIGINS: shop.example is not an origin such as https://shop.example',
      expect.stringMatching(/^SIMULATED_GATEWAY_FAULTS: there is no fault "lost", only decline, /),
      'SIMULATED_GATEWAY_FAULTS: slow=2 must be a probability from 0 to 1, such as 0.05',
    ]);
  });

  it.each([
    'postgres://db.internal/shop',
    'postgresql://shop@db.internal:5432/shop?sslmode=require',
    'postgres://shop@[::1]:5432/shop',
    'postgres://shop@%2Frun%2Fpostgresql/shop',
    'postgres:///shop?host=/run/postgresql',
    'postgres://shop@/shop?sslmode=disable&host=/run/postgresql',
    `postgres://shop:${secret}@db.internal/shop`,
  ])('takes %s for the address of a database', (address) => {
    expect(faultsOf({ DATABASE_URL: address })).toEqual([]);
  });

  it.each([
    'postgres://',
    'postgres://db.internal',
    'postgres://db.internal/',
    'postgres://db.internal/?host=/run',
    'postgres:///shop',
    'postgres://shop@/shop',
    'postgres://:5432/shop',
    'postgres:///shop?host=',
    'postgres:///?host=/run/postgresql',
  ])('takes %s for no address of a database: nobody wrote the rest', (address) => {
    const expected = 'must be a postgres:// address with a host and a database';
    expect(faultsOf({ DATABASE_URL: address, DATABASE_DIRECT_URL: address })).toEqual([
      `DATABASE_URL=(hidden): ${expected}`,
      `DATABASE_DIRECT_URL=(hidden): ${expected}`,
    ]);
  });

  it('takes no direct address of a database that is not named otherwise', () => {
    const fault = 'DATABASE_DIRECT_URL: goes with DATABASE_URL, which is not set: set both, or neither';
    const direct = { DATABASE_DIRECT_URL: 'postgres://db.internal/shop' };
    expect(faultsOf(direct)).toEqual([fault]);
    expect(faultsOf({ ...direct, DATABASE_URL: '' })).toEqual([fault]);
  });

  it('takes no currency that does not exist', () => {
    expect(faultsOf({ CURRENCY: 'ZZZ' })).toEqual([
      `CURRENCY="ZZZ": is no currency that this Node knows (Intl.supportedValuesOf('currency') lists them)`,
    ]);
  });

  it.each(['3000.5', '3e3', '0x10', '１２', 'NaN', ' ', '99999999999999999999'])(
    'does not take %s for a port',
    (port) => {
      expect(faultsOf({ PORT: port })).toHaveLength(1);
    },
  );

  it('keeps the metrics off the port of the shop, unless each takes any free one', () => {
    expect(faultsOf({ PORT: '3000', METRICS_PORT: '3000' })).toEqual([
      'METRICS_PORT=3000: must be another port than PORT',
    ]);
    expect(faultsOf({ PORT: '0', METRICS_PORT: '0' })).toEqual([]);
  });

  it('never shows a secret in what it reports', () => {
    const error = new InvalidConfig(
      faultsOf({
        PORT: 'x',
        DATABASE_URL: `https://${secret}@db.internal`,
        DATABASE_DIRECT_URL: secret,
        SECRET_KEY: secret.slice(0, 12),
      }),
    );
    expect(error.faults).toHaveLength(4);
    expect(error.message).not.toContain(secret.slice(0, 12));
  });
});

describe('the demonstration page', () => {
  it('is served with the embedded database, and where it is asked for', () => {
    const hasDemoWith = (environment: Record<string, string>): boolean => hasDemo(readConfig(environment));
    const elsewhere = { DATABASE_URL: 'postgres://shop@db.internal/shop' };
    expect([hasDemoWith({}), hasDemoWith(elsewhere)]).toEqual([true, false]);
    expect([hasDemoWith({ DEMO: 'off' }), hasDemoWith({ ...elsewhere, DEMO: 'on' })]).toEqual([false, true]);
  });
});

describe('allowed origins', () => {
  it('are a list with commas, blanks around them or not', () => {
    expect(originsOf(' https://a.example ,,https://b.example:8443,')).toEqual([
      'https://a.example',
      'https://b.example:8443',
    ]);
    expect(originsOf('')).toEqual([]);
  });

  it.each([
    'https://shop.example/',
    'https://shop.example/path',
    '*',
    'null',
    'HTTPS://SHOP.EXAMPLE',
    'https://user@shop.example',
  ])('are not written as %s', (origin) => {
    expect(faultsOf({ ALLOWED_ORIGINS: origin })).toHaveLength(1);
  });
});
