import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { gatewayFaults, readFaultRates } from '../shared/gateway-faults.ts';

const hostAndDatabase = '[^/?#@:][^/?#@]*/[^/?#]+';
/** As for a socket. */
const databaseAndHost = '/[^/?#]+\\?.*\\bhost=.+';
const databaseAddress = `^postgres(?:ql)?://(?:[^/?#]*@)?(?:${hostAndDatabase}|${databaseAndHost})`;

/** Every variable of the environment that is read: this schema is also the source of the reference page in docs/. */
export const configSchema = Type.Object({
  PORT: Type.Integer({
    minimum: 0,
    maximum: 65_535,
    default: 3000,
    description: 'TCP port of the HTTP server; 0 takes any free one.',
  }),
  HOST: Type.String({
    minLength: 1,
    default: '127.0.0.1',
    description: 'Address to listen on. `0.0.0.0` for all, as in a container.',
  }),
  DRAIN_DELAY_S: Type.Integer({
    minimum: 0,
    maximum: 300,
    default: 0,
    description:
      'Seconds for which a process that is told to stop still serves while `/ready` answers 503, so that a balancer sends no more before the listener closes. See [containers](containers.md).',
  }),
  METRICS_PORT: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 65_535,
      description:
        'TCP port of `GET /metrics`, for Prometheus, in every role; 0 takes any free one. Unset: none are served. See [metrics](metrics.md).',
    }),
  ),
  DATABASE_URL: Type.Optional(
    Type.String({
      pattern: databaseAddress,
      description: 'PostgreSQL 15 or newer. Unset: an embedded PostgreSQL is started in `DATA_DIR`.',
      examples: ['postgres://shop@db.internal:5432/shop'],
    }),
  ),
  DATABASE_DIRECT_URL: Type.Optional(
    Type.String({
      pattern: databaseAddress,
      description: 'The same database without a pooler in between, for migrations and LISTEN. Unset: `DATABASE_URL`.',
    }),
  ),
  DATA_DIR: Type.String({
    minLength: 1,
    default: '.data',
    description:
      "Folder of the embedded PostgreSQL, from the project's own when relative. Not used when `DATABASE_URL` is set.",
  }),
  ROLE: Type.Union([Type.Literal('all'), Type.Literal('web'), Type.Literal('worker')], {
    default: 'all',
    description: '`web` serves HTTP, `worker` pays and settles orders, `all` does both in one process.',
  }),
  RESERVATION_STRATEGY: Type.Union([Type.Literal('batched'), Type.Literal('atomic'), Type.Literal('pessimistic')], {
    default: 'batched',
    description:
      'How stock is reserved at checkout: `batched` takes all that wait in one transaction; the others, one transaction per order, are there to compare with.',
  }),
  EVENT_FAN_OUT: Type.Union([Type.Literal('postgres'), Type.Literal('in_process')], {
    default: 'postgres',
    description:
      'How processes tell each other of outcomes: `postgres` by LISTEN/NOTIFY (see `DATABASE_DIRECT_URL`); with `in_process` they do not, and find those of others in the table within a second or two.',
  }),
  PAYMENT_GATEWAY: Type.Union([Type.Literal('simulated')], {
    default: 'simulated',
    description: 'Who takes the money. `simulated` takes none and keeps its own journal in the database.',
  }),
  SIMULATED_GATEWAY_LATENCY_MS: Type.Integer({
    minimum: 0,
    maximum: 60_000,
    default: 0,
    description: 'Milliseconds that the simulated gateway takes for each call.',
  }),
  SIMULATED_GATEWAY_FAULTS: Type.String({
    default: '',
    description: `Comma-separated faults of the simulated gateway, each with its probability for a call: ${gatewayFaults.map((fault) => `\`${fault}\``).join(', ')}. See [the simulated gateway](simulated-gateway.md).`,
    examples: ['lost_answer=0.05,slow=0.1'],
  }),
  SIMULATED_GATEWAY_SEED: Type.Integer({
    minimum: 0,
    maximum: 2_147_483_647,
    default: 1,
    description: 'Chooses the calls that `SIMULATED_GATEWAY_FAULTS` hit: the same ones for the same seed.',
  }),
  HOLD_TTL_S: Type.Integer({
    minimum: 1,
    maximum: 86_400,
    default: 600,
    description:
      'Seconds for which stock is held for an order that is not paid. Then its payment is closed at the gateway and the stock is given back.',
  }),
  SEED_PRODUCTS: Type.Integer({
    minimum: 0,
    maximum: 10_000_000,
    default: 10_000,
    description: 'Demonstration products that `start` puts into an empty catalogue; 0: none.',
  }),
  DEMO: Type.Union([Type.Literal('on'), Type.Literal('off'), Type.Literal('auto')], {
    default: 'auto',
    description:
      'The demonstration page at `/demo`, which puts products on sale and sends buyers in. `auto`: on with the embedded PostgreSQL, off with `DATABASE_URL`.',
  }),
  SECRET_KEY: Type.Optional(
    Type.String({
      minLength: 16,
      description:
        'Signs page keys and tickets for events; the same on every node. Another one ends all that are in use. Unset: made once and kept in the database.',
    }),
  ),
  CURRENCY: Type.String({
    pattern: '^[A-Z]{3}$',
    default: 'USD',
    description: 'ISO 4217 code of all prices. Fixed at the first start of a shop.',
  }),
  ALLOWED_ORIGINS: Type.String({
    default: '',
    description:
      'Comma-separated origins of other sites whose pages may call the API and `/cable`. Empty: same origin only.',
    examples: ['https://shop.example,https://www.shop.example'],
  }),
  WEBHOOK_ALLOW_PRIVATE: Type.Union([Type.Literal('true'), Type.Literal('false')], {
    default: 'false',
    description:
      'Whether webhooks may be sent to private addresses (loopback included), over plain HTTP and to any port: for development and for receivers in the same network. `false`: HTTPS to port 443 of public addresses only. See [webhooks](webhooks.md).',
  }),
  LOG_LEVEL: Type.Union(
    ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map((level) => Type.Literal(level)),
    { default: 'info', description: 'Least severe log lines to write (JSON lines on standard error).' },
  ),
});

type Environment = Readonly<Record<string, string | undefined>>;

export type Config = Readonly<Static<typeof configSchema>>;

/** Thrown with every fault of the environment at once, one line each. */
export class InvalidConfig extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`The environment is not valid:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
    this.name = 'InvalidConfig';
    this.faults = faults;
  }
}

/** Reads and validates the environment once. An empty variable counts as unset. Throws {@link InvalidConfig}. */
export function readConfig(environment: Environment): Config {
  const faults: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(configSchema.properties)) {
    const value = readVariable(schema, environment[name]);
    if (value === undefined) continue;
    if (Value.Check(schema, value)) values[name] = value;
    else faults.push(`${name}=${shown(name, environment[name])}: must be ${expectationOf(schema)}`);
  }
  faults.push(...faultsOfCurrency(values.CURRENCY), ...faultsOfAddresses(values, environment));
  for (const fault of readFaultRates(String(values.SIMULATED_GATEWAY_FAULTS ?? '')).faults)
    faults.push(`SIMULATED_GATEWAY_FAULTS: ${fault}`);
  if (faults.length > 0) throw new InvalidConfig(faults);
  return values as Config;
}

function faultsOfCurrency(currency: unknown): string[] {
  if (currency === undefined || Intl.supportedValuesOf('currency').includes(String(currency))) return [];
  return [
    `CURRENCY="${currency}": is no currency that this Node knows (Intl.supportedValuesOf('currency') lists them)`,
  ];
}

function faultsOfAddresses(values: Readonly<Record<string, unknown>>, environment: Environment): string[] {
  const faults = originsOf(String(values.ALLOWED_ORIGINS ?? ''))
    .filter((origin) => !isOrigin(origin))
    .map((origin) => `ALLOWED_ORIGINS: ${origin} is not an origin such as https://shop.example`);
  if (values.METRICS_PORT && values.METRICS_PORT === values.PORT)
    faults.push(`METRICS_PORT=${values.PORT}: must be another port than PORT`);
  if (environment.DATABASE_DIRECT_URL && !environment.DATABASE_URL)
    faults.push('DATABASE_DIRECT_URL: goes with DATABASE_URL, which is not set: set both, or neither');
  return faults;
}

/** The origins listed in `ALLOWED_ORIGINS`. */
export function originsOf(list: string): string[] {
  return list
    .split(',')
    .map((origin) => origin.trim())
    .filter((origin) => origin !== '');
}

/** Whether the demonstration page is served. */
export function hasDemo({ DEMO, DATABASE_URL }: Pick<Config, 'DEMO' | 'DATABASE_URL'>): boolean {
  return DEMO === 'auto' ? DATABASE_URL === undefined : DEMO === 'on';
}

function readVariable(schema: TSchema, text: string | undefined): unknown {
  if (text === undefined || text === '') return 'default' in schema ? schema.default : undefined;
  return Type.IsInteger(schema) && /^-?\d+$/.test(text) ? Number(text) : text;
}

type SchemaLimits = { minimum?: number; maximum?: number; pattern?: string; minLength?: number };

/** What a variable may be, in words. */
export function expectationOf(schema: TSchema): string {
  if (Type.IsUnion(schema))
    return `one of ${schema.anyOf.map((choice) => ('const' in choice ? choice.const : '')).join(', ')}`;
  const { minimum, maximum, pattern, minLength } = schema as SchemaLimits;
  if (Type.IsInteger(schema)) return `a whole number from ${minimum} to ${maximum}`;
  if (pattern === '^[A-Z]{3}$') return 'three capital letters';
  if (pattern) return 'a postgres:// address with a host and a database';
  return minLength === undefined ? 'text' : `text of at least ${minLength} character${minLength === 1 ? '' : 's'}`;
}

/** A fault must not print a password or a key. */
function shown(name: string, text: string | undefined): string {
  return /URL|KEY/.test(name) ? '(hidden)' : `"${text}"`;
}

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text;
}
