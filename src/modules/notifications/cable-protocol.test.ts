import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  basketTokenIn,
  chooseSubprotocol,
  confirmation,
  delivery,
  parseCommand,
  ping,
  rejection,
  subprotocols,
} from './cable-protocol.ts';

const token = '0198f0de-7b7e-7e3a-9d53-1f3b8c2d4e5f';
/** Lone surrogates and control characters included. */
const anyText = fc.array(fc.nat({ max: 0xffff })).map((units) => String.fromCharCode(...units));
const [plain, extended] = subprotocols;
const channel = 'CheckoutNotificationsChannel';

describe('a frame', () => {
  test.each(['subscribe', 'unsubscribe', 'message'])('with the command %s is understood', (name) => {
    const frame = JSON.stringify({ command: name, identifier: '{"channel":"X"}', data: '{}', history: { since: 1 } });
    expect(parseCommand(frame, plain)).toEqual({ name, identifier: '{"channel":"X"}', history: null });
  });

  test('of any other content is no command, and never an error', () => {
    for (const subprotocol of [plain, extended]) {
      fc.assert(fc.property(fc.string(), (frame) => parseCommand(frame, subprotocol) === null));
      fc.assert(fc.property(fc.json(), (frame) => parseCommand(frame, subprotocol) === null));
    }
  });

  test('of the extension may ask for history', () => {
    const frame = JSON.stringify({ command: 'history', identifier: 'x', history: { since: 7 } });
    const history = { sinceSeconds: 7, positions: new Map() };
    expect(parseCommand(frame, extended)).toEqual({ name: 'history', identifier: 'x', history });
    expect(parseCommand(frame, plain)).toEqual({ name: 'extra' });
  });

  test.each(['pong', 'whisper', 'join', 'leave', 'presence', 'what comes next'])(
    'with the extra %s is let pass',
    (command) => {
      const frame = JSON.stringify({ command });
      expect(parseCommand(frame, extended)).toEqual({ name: 'extra' });
      expect(parseCommand(frame, plain)).toEqual({ name: 'extra' });
    },
  );
});

describe('an identifier', () => {
  test('names the basket of this channel', () => {
    expect(basketTokenIn(JSON.stringify({ channel, shopping_basket_id: token }))).toBe(token);
    expect(basketTokenIn(JSON.stringify({ shopping_basket_id: token, locale: 'en', channel }))).toBe(token);
  });

  test('of at most 4,096 characters is read', () => {
    const identifier = JSON.stringify({ channel, shopping_basket_id: token });
    expect(basketTokenIn(identifier.padEnd(4_096))).toBe(token);
    expect(basketTokenIn(identifier.padEnd(4_097))).toBeNull();
  });

  test.each([
    { why: 'another channel', identifier: JSON.stringify({ channel: 'X', shopping_basket_id: token }) },
    { why: 'no channel', identifier: JSON.stringify({ shopping_basket_id: token }) },
    { why: 'no token', identifier: JSON.stringify({ channel }) },
    { why: 'what is no token', identifier: JSON.stringify({ channel, shopping_basket_id: `${token}'` }) },
    { why: 'no JSON', identifier: channel },
    { why: 'a list', identifier: JSON.stringify([channel, token]) },
  ])('with $why names none', ({ identifier }) => {
    expect(basketTokenIn(identifier)).toBeNull();
  });

  test('comes back as it was sent', () => {
    fc.assert(
      fc.property(anyText, fc.json({ maxDepth: 1 }), (identifier, message) => {
        expect(JSON.parse(confirmation(identifier))).toEqual({ type: 'confirm_subscription', identifier });
        expect(JSON.parse(rejection(identifier))).toEqual({ type: 'reject_subscription', identifier });
        expect(JSON.parse(delivery(identifier, message, null))).toEqual({ identifier, message: JSON.parse(message) });
        const position = { stream_id: token, epoch: 'x', offset: 3 };
        expect(JSON.parse(delivery(identifier, message, position))).toEqual({
          identifier,
          message: JSON.parse(message),
          ...position,
        });
      }),
    );
  });
});

test.each([
  { offered: undefined, chosen: plain },
  { offered: 'actioncable-v1-json', chosen: plain },
  { offered: 'actioncable-v1-json, actioncable-unsupported', chosen: plain },
  { offered: 'actioncable-v1-ext-json,actioncable-v1-json', chosen: extended },
  { offered: 'actioncable-v1-json, actioncable-v1-ext-json', chosen: plain },
  { offered: 'actioncable-v1-ext-msgpack, actioncable-v1-ext-json', chosen: extended },
  { offered: 'actioncable-unsupported', chosen: null },
  { offered: 'actioncable-v1-json-2', chosen: null },
  { offered: '', chosen: null },
])('of the offer $offered, $chosen is chosen', ({ offered, chosen }) => {
  expect(chooseSubprotocol(offered)).toBe(chosen);
});

test('a ping carries the time', () => {
  expect(JSON.parse(ping(1_800_000_000))).toEqual({ type: 'ping', message: 1_800_000_000 });
});
