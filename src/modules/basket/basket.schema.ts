import { Type } from 'typebox';
import { MoneySchema, oneOf } from '../../http/schemas.ts';

export const BasketSchema = Type.Object(
  {
    products: Type.Array(
      Type.Object({
        id: Type.String({ format: 'uuid' }),
        name: Type.String(),
        description: Type.String(),
        quantity: Type.Integer(),
        stock_status: oneOf(['AVAILABLE', 'OUT_OF_STOCK'], 'OUT_OF_STOCK when there are fewer than `quantity`.'),
        total_price: MoneySchema,
      }),
    ),
    total_price: MoneySchema,
  },
  { description: 'The basket as it is now, at current prices.' },
);

export const SetQuantityBody = Type.Object({
  product: Type.Object({
    // Any value: what is not the id of a product on sale is not found, whatever its type.
    product_id: Type.Optional(Type.Unsafe<unknown>({ description: 'The id of a product.' })),
    quantity: Type.Integer({ minimum: 0, maximum: 10_000, description: 'Sets the quantity; 0 takes the product out.' }),
  }),
});
