import { createSecretKey } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newId } from '../../shared/ids.ts';
import { eventsPath, expiryOfTicket, ticketFor } from './tickets.service.ts';

const key = createSecretKey(Buffer.alloc(32, 1));
const otherKey = createSecretKey(Buffer.alloc(32, 2));
const orderId = '01890a5d-ac96-774b-bcce-b302099a8057';
const acceptedAtSeconds = Math.floor(0x01890a5dac96 / 1_000);

describe('the address of the events of an order', () => {
  it('carries a ticket until a day after the order was accepted, and never changes', () => {
    const url = new URL(eventsPath(key, orderId), 'http://shop.example');
    expect(url.pathname).toBe(`/api/v2/orders/${orderId}/events`);
    expect(expiryOfTicket(key, orderId, String(url.searchParams.get('ticket')))).toBe(acceptedAtSeconds + 86_400);
    expect(eventsPath(key, orderId)).toBe(eventsPath(key, orderId));
  });

  it('needs no escaping', () => {
    for (let count = 0; count < 100; count++) expect(eventsPath(key, newId())).toMatch(/^[\w/?=.-]+$/);
  });
});

describe('a ticket', () => {
  const ticket = ticketFor(key, orderId, 1_800_000_000);

  it('opens its order, under its key', () => {
    expect(expiryOfTicket(key, orderId, ticket)).toBe(1_800_000_000);
    expect(expiryOfTicket(key, newId(), ticket)).toBeNull();
    expect(expiryOfTicket(otherKey, orderId, ticket)).toBeNull();
  });

  it('is none with any other character in any place', () => {
    fc.assert(
      fc.property(fc.nat({ max: ticket.length - 1 }), fc.string({ minLength: 1, maxLength: 1 }), (index, character) => {
        fc.pre(ticket[index] !== character);
        const changed = ticket.slice(0, index) + character + ticket.slice(index + 1);
        expect(expiryOfTicket(key, orderId, changed)).toBeNull();
      }),
    );
  });

  it('is none in any other form, and that is no error', () => {
    const others = [
      '',
      '.',
      ` ${ticket}`,
      `${ticket}=`,
      `0${ticket}`,
      `+${ticket}`,
      ticket.slice(0, -1),
      `${ticket}\n`,
    ];
    for (const other of others) expect(expiryOfTicket(key, orderId, other)).toBeNull();
    fc.assert(fc.property(fc.string(), (text) => expiryOfTicket(key, orderId, text) === null));
  });
});
