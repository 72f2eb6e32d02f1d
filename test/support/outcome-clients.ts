import { createCable, type ProtocolID } from '@anycable/core';
import { createConsumer } from '@rails/actioncable';

/** Public clients of Action Cable, as shops use them. */
export const clientKinds = ['@rails/actioncable', '@anycable/core', '@anycable/core, extended'] as const;
export type ClientKind = (typeof clientKinds)[number];

/** What a subscription's callbacks were told. */
export type Listening = Readonly<{
  /** The ids of the events, in the order in which they came. */
  told: string[];
  /** `connected`, `disconnected`, `rejected`, and of the extended one what came of its history. */
  states: string[];
  stop(): void;
}>;

export type OutcomeClient = Readonly<{ listen(token: string): Listening; close(): void }>;

type Message = Readonly<{ event_id: string }>;

const channel = 'CheckoutNotificationsChannel';
const reconnectMs = 100;

export type ClientOptions = Readonly<{
  /** Time between two signs of life of the server; a few of them may come late. */
  pingMs: number;
  /** Since when an extended client wants to know; unless told, since it was opened. */
  historySince?: number;
}>;

/** Opens the client `kind` as it comes from npm on the cable at `url`. Close it when done. */
export function openClient(kind: ClientKind, url: string, options: ClientOptions): OutcomeClient {
  if (kind === '@rails/actioncable') return openRailsClient(url);
  const protocol = kind === '@anycable/core' ? 'actioncable-v1-json' : 'actioncable-v1-ext-json';
  return openAnyCableClient(url, protocol, options);
}

function openRailsClient(url: string): OutcomeClient {
  const consumer = createConsumer(url);
  return {
    listen: (token) => {
      const told: string[] = [];
      const states: string[] = [];
      const subscription = consumer.subscriptions.create(
        { channel, shopping_basket_id: token },
        {
          connected: () => states.push('connected'),
          disconnected: () => states.push('disconnected'),
          rejected: () => states.push('rejected'),
          received: (message) => told.push((message as Message).event_id),
        },
      );
      return { told, states, stop: () => subscription.unsubscribe() };
    },
    close: () => consumer.disconnect(),
  };
}

function openAnyCableClient(
  url: string,
  protocol: ProtocolID,
  { pingMs: pingInterval, historySince }: ClientOptions,
): OutcomeClient {
  const cable = createCable(url, {
    protocol,
    pingInterval,
    maxMissingPings: 20,
    reconnectStrategy: () => reconnectMs,
    logLevel: 'error',
    ...(historySince === undefined ? {} : { historyTimestamp: historySince }),
  });
  return {
    listen: (token) => {
      const told: string[] = [];
      const states: string[] = [];
      const subscription = cable.subscribeTo(channel, { shopping_basket_id: token });
      subscription.on('connect', () => states.push('connected'));
      subscription.on('disconnect', () => states.push('disconnected'));
      subscription.on('close', (reason) => reason && states.push('rejected'));
      subscription.on('info', ({ type }) => states.push(type));
      subscription.on('message', (message) => told.push((message as Message).event_id));
      return { told, states, stop: () => subscription.disconnect() };
    },
    close: () => cable.disconnect(),
  };
}
