import { Type } from 'typebox';
import { MoneySchema, oneOf } from '../../http/schemas.ts';

export const OrderSchema = Type.Object(
  {
    id: Type.String({ format: 'uuid' }),
    email: Type.String(),
    created_at: Type.String({ description: 'ISO 8601, UTC, with milliseconds.' }),
    total_price: MoneySchema,
    order_products: Type.Array(
      Type.Object({
        id: Type.String({ format: 'uuid', description: "The product's id." }),
        name: Type.String(),
        description: Type.String(),
        quantity: Type.Integer(),
        unit_price: MoneySchema,
        total_price: MoneySchema,
      }),
    ),
  },
  { description: 'An order as it was sold.' },
);

const states = ['pending', 'authorized', 'captured', 'completed', 'failed', 'cancelled', 'refunded'] as const;
const errorCodes = ['payment_required', 'hold_expired', 'cancelled', 'internal'] as const;

export const EventsUrlSchema = Type.String({
  description:
    'Where the outcome is told as server-sent events. The ticket in it opens this one order, until a day after acceptance.',
});

export const OrderStatusSchema = Type.Object(
  {
    id: Type.String({ format: 'uuid' }),
    status: oneOf(states),
    order: Type.Union([OrderSchema, Type.Null()], { description: 'Null until the order is completed.' }),
    error: Type.Union([Type.Object({ code: oneOf(errorCodes), message: Type.String() }), Type.Null()], {
      description: 'Null unless the order failed or was cancelled.',
    }),
    events_url: EventsUrlSchema,
  },
  { description: 'The order as it is now.' },
);

export const OrderParams = Type.Object({ id: Type.String() });
