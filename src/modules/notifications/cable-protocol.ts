import { isUuid } from '../../shared/ids.ts';

/** The version of the Action Cable protocol that is spoken here, as it is negotiated at the upgrade. */
export const subprotocol = 'actioncable-v1-json';

const channel = 'CheckoutNotificationsChannel';
const maxIdentifierLength = 4_096;

const commandNames = ['subscribe', 'unsubscribe', 'message'] as const;

/** What a client asks for. The identifier is how it names a subscription: JSON, but echoed as the text that came. */
export type Command = Readonly<{ name: (typeof commandNames)[number]; identifier: string }>;

/** Why a client is told to go; the client reads only whether it should come back. */
export type DisconnectReason = 'invalid_request' | 'server_restart' | 'remote';

/** The command in a frame, or null when it is not one. */
export function parseCommand(frame: string): Command | null {
  const { command, identifier } = parseObject(frame) ?? {};
  const name = commandNames.find((known) => known === command);
  return name && typeof identifier === 'string' ? { name, identifier } : null;
}

/** The basket's token that a subscription names, or null when it can belong to no basket of this channel. */
export function basketTokenIn(identifier: string): string | null {
  if (identifier.length > maxIdentifierLength) return null;
  const { channel: name, shopping_basket_id: token } = parseObject(identifier) ?? {};
  return name === channel && isUuid(token) ? token : null;
}

/** Whether a client that offers these subprotocols (the header's value) can be spoken to; one that offers none can. */
export function canSpeak(offered: string | undefined): boolean {
  return offered === undefined || offered.split(',').some((name) => name.trim() === subprotocol);
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

/** Brings a message, already serialised as JSON, to a subscription. */
export function delivery(identifier: string, message: string): string {
  return `{"identifier":${JSON.stringify(identifier)},"message":${message}}`;
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
