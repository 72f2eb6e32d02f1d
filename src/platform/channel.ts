import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Unavailable } from '../shared/refusal.ts';
import { type Reader, sql } from './db.ts';

export type ListenOptions = Readonly<{
  /** Of the database itself: a pooler that shares connections hands none of the notifications on. */
  url: string;
  /** A plain identifier. */
  channel: string;
  /** Shown in pg_stat_activity. */
  name: string;
  onPayload: (payload: string) => void;
  /** Called each time that listening has begun, the first included: what was sent before went unheard. */
  onListening: () => void;
  onError: (error: Error) => void;
  /** Time between two signs of life, and for which each is waited for. */
  heartbeatMs: number;
}>;

/** A connection that listens, and is made anew for as long as it is wanted. */
export type ChannelListener = Readonly<{ isListening: () => boolean; close: () => Promise<void> }>;

const connectTimeoutMs = 3_000;
const shortestPauseMs = 100;
const longestPauseMs = 5_000;

/** The server takes payloads of up to 7,999 bytes. */
export const mostPayloadBytes = 7_999;

/** Nobody waits for the disk on account of a notification. Here and not in the session, so that a pooler may be in between. */
const notifyAll = sql(
  'channel.notify',
  `SELECT set_config('synchronous_commit', 'off', true), count(pg_notify($1, payload))
     FROM unnest($2::text[]) AS p (payload)`,
);

/** Sends payloads of at most {@link mostPayloadBytes} each to all that listen to `channel`, in a transaction of its own. */
export async function notify(database: Reader, channel: string, payloads: readonly string[]): Promise<void> {
  await database.query(notifyAll, [channel, payloads]);
}

/**
 * Listens to a channel on a connection of its own. Where that is lost, or no sign of life comes through it any more,
 * the next is made, after pauses that grow while there is no success. Close it when done.
 */
export function listenTo(options: ListenOptions): ChannelListener {
  const stopping = new AbortController();
  let isListening = false;
  const setListening = (now: boolean): void => {
    isListening = now;
    if (now) options.onListening();
  };
  const done = listenUntil(stopping.signal, options, setListening);
  return {
    isListening: () => isListening,
    close: async () => {
      stopping.abort();
      await done;
    },
  };
}

async function listenUntil(
  signal: AbortSignal,
  options: ListenOptions,
  setListening: (now: boolean) => void,
): Promise<void> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      await listenOnce(signal, options, () => {
        failures = 0;
        setListening(true);
      });
    } catch (error) {
      if (!signal.aborted) options.onError(asOutage(options.channel, error as Error));
    }
    setListening(false);
    await sleep(pauseMs(failures), undefined, { signal, ref: false }).catch(() => undefined);
  }
}

/** Random, so that processes that were cut off together do not come back together. */
function pauseMs(failures: number): number {
  return Math.min(longestPauseMs, shortestPauseMs * 2 ** failures) * (0.5 + Math.random() / 2);
}

/** Returns when `signal` is aborted, and throws when the connection is lost, or was of no use. */
async function listenOnce(signal: AbortSignal, options: ListenOptions, onListening: () => void): Promise<void> {
  const socket = new Socket();
  const client = new pg.Client({
    stream: () => socket,
    connectionString: options.url,
    application_name: `scalecommerce ${options.name}`,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: options.heartbeatMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 2_000,
  });
  const lost = new AbortController();
  client.on('error', (error) => lost.abort(error));
  client.on('end', () => lost.abort(new Error('The connection was ended')));
  // One for all of its heartbeats: what waits for each of them anew would add up while the connection lives.
  const over = AbortSignal.any([signal, lost.signal]);
  client.on('notification', ({ payload }) => options.onPayload(payload ?? ''));
  const stop = (): void => void socket.destroy();
  signal.addEventListener('abort', stop, { once: true });
  try {
    await client.connect();
    await client.query(`LISTEN ${options.channel}`);
    onListening();
    for (;;) {
      await heartbeatDue(options.heartbeatMs, over);
      await checkStillListening(client, options.channel);
    }
  } finally {
    signal.removeEventListener('abort', stop);
    // Not a farewell: where the network swallows everything, it would never be through.
    socket.destroy();
  }
}

/** Throws what ends the connection before it is due. */
async function heartbeatDue(heartbeatMs: number, over: AbortSignal): Promise<void> {
  await sleep(heartbeatMs, undefined, { signal: over, ref: false }).catch(() => undefined);
  over.throwIfAborted();
}

/** Also what tells a connection that is shared with others, of which a pooler gives another each time. */
async function checkStillListening(client: pg.Client, channel: string): Promise<void> {
  const { rows } = await client.query<{ channel: string }>('SELECT pg_listening_channels() AS channel');
  if (rows.some((row) => row.channel === channel)) return;
  throw new Error('the connection does not listen any more. Does DATABASE_DIRECT_URL lead past the pooler?');
}

function asOutage(channel: string, cause: Error): Unavailable {
  return new Unavailable(`Notifications on ${channel} are not heard: ${cause.message}`, { cause });
}
