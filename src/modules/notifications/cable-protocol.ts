import { isUuid } from '../../shared/ids.ts';
import { type HistoryWish, parseHistory } from './cable-history.ts';

/** Action Cable, and its extension by a history of each stream, as they are negotiated at the upgrade. */
export const subprotocols = ['actioncable-v1-json', 'actioncable-v1-ext-json'] as const;
export type Subprotocol = (typeof subprotocols)[number];

const channel = 'CheckoutNotificationsChannel';
const maxIdentifierLength = 4_096;

const plainNames = ['subscribe', 'unsubscribe', 'message'] as const;
const extendedNames = [...plainNames, 'history'] as const;

/**
 * What a client asks for. The identifier is how it names a subscription: JSON, but echoed as the text that came.
 * An `extra` is for what the extension may bring besides: signs of life, presence, whispers.
 */
export type Command =
  | Readonly<{ name: (typeof extendedNames)[number]; identifier: string; history: HistoryWish }>
  | Readonly<{ name: 'extra' }>;

/** Where in which stream a message stands, for clients that ask for what came after it. */
export type StreamPosition = Readonly<{ stream_id: string; epoch: string; offset: number }>;

/** Why a client is told to go; the client reads only whether it should come back. */
export type DisconnectReason = 'invalid_request' | 'server_restart' | 'remote';

/** The command in a frame, or null when it is not one. */
export function parseCommand(frame: string, subprotocol: Subprotocol): Command | null {
  const isExtended = subprotocol === 'actioncable-v1-ext-json';
  const { command, identifier, history } = parseObject(frame) ?? {};
  const name = (isExtended ? extendedNames : plainNames).find((known) => known === command);
  if (!name) return typeof command === 'string' ? { name: 'extra' } : null;
  return typeof identifier === 'string'
    ? { name, identifier, history: isExtended ? parseHistory(history) : null }
    : null;
}

/** The basket's token that a subscription names, or null when it can belong to no basket of this channel. */
export function basketTokenIn(identifier: string): string | null {
  if (identifier.length > maxIdentifierLength) return null;
  const { channel: name, shopping_basket_id: token } = parseObject(identifier) ?? {};
  return name === channel && isUuid(token) ? token : null;
}

/** The first of the subprotocols that a client offers (the header's value) and that is spoken here, or null. */
export function chooseSubprotocol(offered: string | undefined): Subprotocol | null {
  // A client that offers none can be spoken to, too.
  const names = (offered ?? subprotocols[0]).split(',').map((name) => name.trim());
  for (const name of names) {
    const spoken = subprotocols.find((subprotocol) => subprotocol === name);
    if (spoken) return spoken;
  }
  return null;
}

/** The first thing a client is told. */
export const welcome = JSON.stringify({ type: 'welcome' });

/** A sign of life, at `unixSeconds`. */
export function ping(unixSeconds: number): string {
  return JSON.stringify({ type: 'ping', message: unixSeconds });
}

/** Says that the subscription stands. */
export function confirmation(identifier: string): string {
  return JSON.stringify({ identifier, type: 'confirm_subscription' });
}

/** Says that there will be no such subscription. */
export function rejection(identifier: string): string {
  return JSON.stringify({ identifier, type: 'reject_subscription' });
}

/** Says that the history that was asked for has been told. */
export function historyConfirmation(identifier: string): string {
  return JSON.stringify({ identifier, type: 'confirm_history' });
}

/** Says that the history that was asked for cannot be told. */
export function historyRejection(identifier: string): string {
  return JSON.stringify({ identifier, type: 'reject_history' });
}

/** Brings a message, already serialised as JSON, to a subscription; in the extension, with its position. */
export function delivery(identifier: string, message: string, position: StreamPosition | null): string {
  const more = position ? `,${JSON.stringify(position).slice(1, -1)}` : '';
  return `{"identifier":${JSON.stringify(identifier)},"message":${message}${more}}`;
}

/** The last thing a client is told. Without `reconnect` it must not come back by itself. */
export function disconnection(reason: DisconnectReason, reconnect: boolean): string {
  return JSON.stringify({ type: 'disconnect', reason, reconnect });
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
