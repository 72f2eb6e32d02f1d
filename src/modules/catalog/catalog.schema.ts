import { Type } from 'typebox';
import { MoneySchema, oneOf } from '../../http/schemas.ts';

export const ProductSchema = Type.Object(
  {
    id: Type.String({ format: 'uuid' }),
    name: Type.String(),
    description: Type.String(),
    price: MoneySchema,
    stock_status: oneOf(['AVAILABLE', 'OUT_OF_STOCK']),
  },
  { description: 'A product on sale. How many there are is never told.' },
);

export const NumberedPageSchema = Type.Object(
  {
    page: Type.Integer(),
    pages: Type.Integer(),
    per_page: Type.Integer(),
    record_count: Type.Integer(),
    records: Type.Array(ProductSchema),
  },
  { description: 'The page, and how many there are. Past the end it has no records.' },
);

export const KeyedPageSchema = Type.Object(
  {
    per_page: Type.Integer(),
    next: Type.Union([Type.String(), Type.Null()], {
      description: 'Pass it as `page` for the next page; null at the end.',
    }),
    previous: Type.Union([Type.String(), Type.Null()], { description: 'Likewise backwards; null at the beginning.' }),
    records: Type.Array(ProductSchema),
  },
  { description: 'The page, and the keys of those beside it.' },
);

export const PageQuery = Type.Object({ page: Type.Optional(Type.String()) });
export const ProductParams = Type.Object({ id: Type.String() });
