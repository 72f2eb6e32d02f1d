import { type TSchemaOptions, Type } from 'typebox';

export const MoneySchema = Type.Object(
  {
    cents: Type.Integer({ description: 'Minor units of the currency.' }),
    currency: Type.String({ description: 'ISO 4217 code.' }),
  },
  { examples: [{ cents: 1000, currency: 'USD' }] },
);

/** Text that a client writes: not blank, storable, and no card number. */
export function writtenText(maxLength: number, options: TSchemaOptions = {}) {
  return Type.String({
    minLength: 1,
    pattern: '\\S',
    maxLength,
    'x-plain-text': true,
    'x-no-card-number': true,
    ...options,
  });
}
