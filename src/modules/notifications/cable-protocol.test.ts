import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { basketTokenIn, canSpeak, confirmation, delivery, parseCommand, ping, rejection } from './cable-protocol.ts';

const token = '0198f0de-7b7e-7e3a-9d53-1f3b8c2d4e5f';
/** Lone surrogates and control characters included. */
const anyText = fc.array(fc.nat({ max: 0xffff })).map((units) => String.fromCharCode(...units));
const channel = 'CheckoutNotificationsChannel';

describe('a frame', () => {
  test.each(['subscribe', 'unsubscribe', 'message'])('with the command %s is understood', (name) => {
    const frame = JSON.stringify({ command: name, identifier: '{"channel":"X"}', data: '{}' });
    expect(parseCommand(frame)).toEqual({ name, identifier: '{"channel":"X"}' });
  });

  test('of any other content is no command, and never an error', () => {
    fc.assert(fc.property(fc.string(), (frame) => parseCommand(frame) === null));
    fc.assert(fc.property(fc.json(), (frame) => parseCommand(frame) === null));
  });
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
        expect(JSON.parse(delivery(identifier, message))).toEqual({ identifier, message: JSON.parse(message) });
      }),
    );
  });
});

test.each([
  { offered: undefined, spoken: true },
  { offered: 'actioncable-v1-json', spoken: true },
  { offered: 'actioncable-v1-json, actioncable-unsupported', spoken: true },
  { offered: 'actioncable-v1-ext-json,actioncable-v1-json', spoken: true },
  { offered: 'actioncable-unsupported', spoken: false },
  { offered: 'actioncable-v1-json-2', spoken: false },
  { offered: '', spoken: false },
])('a client that offers $offered can be spoken to: $spoken', ({ offered, spoken }) => {
  expect(canSpeak(offered)).toBe(spoken);
});

test('a ping carries the time', () => {
  expect(JSON.parse(ping(1_800_000_000))).toEqual({ type: 'ping', message: 1_800_000_000 });
});
