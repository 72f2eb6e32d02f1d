import { type TSchema, type TSchemaOptions, Type } from 'typebox';
import { ErrorBody } from './problem.ts';

export const MoneySchema = Type.Object(
  {
    cents: Type.Integer({ description: 'Minor units of the currency.' }),
    currency: Type.String({ description: 'ISO 4217 code.' }),
  },
  { examples: [{ cents: 1000, currency: 'USD' }] },
);

/** One of a few words. */
export function oneOf<const Words extends readonly string[]>(words: Words, description?: string) {
  return Type.Unsafe<Words[number]>({ type: 'string', enum: words, ...(description ? { description } : {}) });
}

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

const faults = { '4xx': ErrorBody, '5xx': ErrorBody };

/** The answers of a route: one of success, and errors. `headers` are those that only the success carries. */
export function answers<Body extends TSchema>(statusCode: 200 | 201 | 202, body: Body, headers?: HeaderDescriptions) {
  const described = headers ? { ...body, headers: describedHeaders(headers) } : body;
  return { [statusCode]: described, ...faults };
}

/** The answers of a route whose clients may ask whether what they have is still good. */
export function conditionalAnswers<Body extends TSchema>(body: Body) {
  const notModified = Type.Null({ description: 'What the client has is still good.' });
  return { ...answers(200, body, { ETag: 'A strong validator of these bytes.' }), 304: notModified };
}

type HeaderDescriptions = Readonly<Record<string, string>>;

function describedHeaders(headers: HeaderDescriptions) {
  return Object.fromEntries(
    Object.entries(headers).map(([name, description]) => [name, { type: 'string', description }]),
  );
}
