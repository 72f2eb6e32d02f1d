import { type TSchema, type TSchemaOptions, Type } from 'typebox';
import { errorBody } from './problem.ts';

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

/** What an error of each status means, whatever the operation. */
const meanings = {
  400: 'The request cannot be read, or lacks something: nothing was done.',
  402: 'The order has failed or was cancelled: nothing is charged, and its lines are back in the basket.',
  403: 'A page of another site may not write here.',
  404: 'There is no such thing, or not for who asks.',
  409: 'Something else came first: nothing was taken.',
  413: 'The body is too large.',
  415: 'The body is not JSON.',
  422: 'What is asked for cannot be: nothing was done. One message for each fault.',
  429: 'Too much at once: nothing was done.',
  500: 'An unexpected fault. What became of the request is unknown: repeat it with the same `Idempotency-Key`.',
  503: 'Too busy, or about to stop: nothing was done.',
  504: 'No answer in time. What became of the request is unknown: repeat it with the same `Idempotency-Key`.',
} as const;

type ErrorStatus = keyof typeof meanings;

/** Typical messages by status. */
type ErrorMessages = Readonly<Partial<Record<ErrorStatus, readonly string[]>>>;

/** What any operation may be answered. */
const anywhere: ErrorMessages = {
  400: ['The request cannot be read'],
  500: ['Internal server error'],
  503: ['The service is busy, please try again'],
  504: ['The request took too long; its outcome is unknown'],
};

/** What any operation with a body may be answered besides. */
const withBody: ErrorMessages = {
  400: ['Invalid JSON in the request body'],
  403: ['Origin is not allowed; the shop can list it in ALLOWED_ORIGINS'],
  413: ['The request body is larger than 64 KB'],
  415: ['Send a JSON body with Content-Type: application/json'],
};

/**
 * The answers of a route: one of success, and errors, those that only this route has in `errors`. `headers` are those that
 * only the success carries. This is for the description; errors are written without it.
 */
export function answers<Body extends TSchema>(
  statusCode: 200 | 201 | 202,
  body: Body,
  headers?: HeaderDescriptions,
  errors: ErrorMessages = {},
) {
  const described = headers ? { ...body, headers: describedHeaders(headers) } : body;
  return { [statusCode]: described, ...describedErrors(statusCode === 200 ? {} : withBody, errors) };
}

/** The answers of a route whose clients may ask whether what they have is still good. */
export function conditionalAnswers<Body extends TSchema>(body: Body, errors: ErrorMessages = {}) {
  const notModified = Type.Null({ description: 'What the client has is still good.' });
  return { ...answers(200, body, { ETag: 'A strong validator of these bytes.' }, errors), 304: notModified };
}

function describedErrors(...sources: readonly ErrorMessages[]) {
  const statuses = Object.keys(meanings).map((status) => Number(status) as ErrorStatus);
  const messagesOf = (status: ErrorStatus) => [...sources, anywhere].flatMap((source) => source[status] ?? []);
  const known = statuses.filter((status) => messagesOf(status).length > 0);
  return Object.fromEntries(known.map((status) => [status, describedError(status, messagesOf(status))]));
}

function describedError(status: ErrorStatus, messages: readonly string[]) {
  const examples = messages.map((message, index) => [
    `example_${index + 1}`,
    { summary: message, value: errorBody(status, [message]) },
  ]);
  return {
    description: meanings[status],
    content: {
      'application/json': { schema: { $ref: 'Error#' }, examples: Object.fromEntries(examples) },
      'application/problem+json': { schema: { $ref: 'Problem#' } },
    },
    ...(status === 429 || status === 503 ? { headers: describedHeaders({ 'Retry-After': 'In seconds.' }) } : {}),
  };
}

/** The answers of a route that sends events for as long as its client listens; `nothingLeft` says what 204 means. */
export function streamAnswers(nothingLeft: string, errors: ErrorMessages = {}) {
  const events = { description: 'The events.', content: { 'text/event-stream': { schema: Type.String() } } };
  return { 200: events, 204: Type.Null({ description: nothingLeft }), ...describedErrors(errors) };
}

type HeaderDescriptions = Readonly<Record<string, string>>;

function describedHeaders(headers: HeaderDescriptions) {
  return Object.fromEntries(
    Object.entries(headers).map(([name, description]) => [name, { type: 'string', description }]),
  );
}
