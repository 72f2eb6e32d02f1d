import { Type } from 'typebox';
import { oneOf, writtenText } from '../../http/schemas.ts';
import { EventsUrlSchema } from '../orders/orders.schema.ts';

const optionalText = Type.Union([
  Type.Null(),
  Type.String({ maxLength: 255, 'x-plain-text': true, 'x-no-card-number': true }),
]);

export const CheckoutBody = Type.Object({
  payment_token: writtenText(255, {
    description: 'From the payment provider; never a card number.',
    examples: ['tok_success'],
  }),
  email: writtenText(254, { format: 'email', examples: ['shopper@example.com'] }),
  address: Type.Object({
    line_1: writtenText(255),
    line_2: Type.Optional(optionalText),
    city: writtenText(255),
    state: writtenText(255),
    zip: writtenText(32),
    country: writtenText(255),
  }),
  fulfilment: Type.Optional(
    oneOf(
      ['partial', 'all_or_nothing'],
      '`partial` (the default) leaves lines out that are short of stock; `all_or_nothing` refuses then.',
    ),
  ),
  expected_total: Type.Optional(
    Type.Integer({
      minimum: 0,
      description:
        'What the whole basket should cost, in minor units; 409 when it costs anything else. With `all_or_nothing` exactly that is charged, with `partial` less where a line is short of stock.',
    }),
  ),
});

export const AcceptedSchema = Type.Object(
  {
    message: Type.String(),
    events_url: EventsUrlSchema,
    notifications: Type.Object({
      channel: Type.String(),
      params: Type.Object({ shopping_basket_id: Type.String() }),
    }),
  },
  { description: 'The order is accepted, and its outcome will be told.' },
);
