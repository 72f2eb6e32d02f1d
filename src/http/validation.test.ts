import { Ajv } from 'ajv';
import { type TSchema, Type } from 'typebox';
import { describe, expect, it } from 'vitest';
import type { Refusal } from '../shared/refusal.ts';
import { writtenText } from './schemas.ts';
import { extendValidator, refusalOfValidation, validatorOptions } from './validation.ts';

/** What a route with `schema` answers to `body`. */
function refusalOf(schema: TSchema, body: unknown, part = 'body'): Refusal | 'accepted' {
  const validate = extendValidator(new Ajv(validatorOptions)).compile(schema);
  if (validate(body)) return 'accepted';
  const errors = (validate.errors ?? []) as Parameters<typeof refusalOfValidation>[0];
  return refusalOfValidation(errors, part).refusal;
}

const unprocessable = (...messages: string[]): Refusal => ({ kind: 'unprocessable', messages });
const badRequest = (message: string): Refusal => ({ kind: 'bad_request', messages: [message] });

describe('a missing object', () => {
  const Order = Type.Object({ name: Type.String(), address: Type.Object({ city: writtenText(10) }) });

  it.each([
    [undefined],
    [null],
    [[]],
    ['text'],
    [1],
    [true],
    [{}],
    [{ address: null }],
    [{ address: [] }],
    [{ address: 'Springfield', name: 1 }],
  ])('is a bad request: %j', (body) => {
    expect(refusalOf(Order, body)).toEqual(badRequest('Missing parameter: address'));
  });

  it('is named by the body where nothing has a name', () => {
    expect(refusalOf(Type.Object({ name: Type.String() }), null)).toEqual(badRequest('Missing parameter: body'));
  });

  it('does not hide that a text is missing', () => {
    expect(refusalOf(Order, { address: {} })).toEqual(unprocessable("Name can't be blank", "City can't be blank"));
  });
});

describe('a quantity', () => {
  const Line = Type.Object({ quantity: Type.Integer({ minimum: 0, maximum: 10 }) });

  it.each([
    [1.5, 'Quantity must be an integer'],
    ['2', 'Quantity must be an integer'],
    [null, 'Quantity must be an integer'],
    [true, 'Quantity must be an integer'],
    [[1], 'Quantity must be an integer'],
    [Number.POSITIVE_INFINITY, 'Quantity must be an integer'],
    [undefined, 'Quantity must be an integer'],
    [-1, 'Quantity must be greater than or equal to 0'],
    [11, 'Quantity must be less than or equal to 10'],
    [2 ** 53, 'Quantity must be less than or equal to 10'],
  ])('of %j is refused', (quantity, message) => {
    expect(refusalOf(Line, { quantity })).toEqual(unprocessable(message));
    expect(refusalOf(Line, quantity === undefined ? {} : { quantity })).toEqual(unprocessable(message));
  });

  it('is taken as it is', () => {
    const line = { quantity: 3, price: 1 };
    expect(refusalOf(Line, line)).toBe('accepted');
    expect(line).toEqual({ quantity: 3, price: 1 });
  });
});

describe('a text', () => {
  const Person = Type.Object({ line_1: writtenText(24) });

  it.each([
    ['', "Line 1 can't be blank"],
    [' \t\u00a0', "Line 1 can't be blank"],
    [null, "Line 1 can't be blank"],
    [1, 'Line 1 is invalid'],
    [{}, 'Line 1 is invalid'],
    ['a'.repeat(25), 'Line 1 is too long (maximum is 24 characters)'],
    ['a\0b', 'Line 1 is invalid'],
    ['a\ud800b', 'Line 1 is invalid'],
    ['\udc00', 'Line 1 is invalid'],
    ['4111 1111 1111 1111', 'Line 1 must not contain a card number'],
  ])('of %j is refused once', (text, message) => {
    expect(refusalOf(Person, { line_1: text })).toEqual(unprocessable(message));
  });

  it.each(['a', "'; DROP TABLE orders; --", 'é'.repeat(20), '😀', '<script>', '\u202e', '1 Main St'])(
    'may be %j',
    (text) => {
      expect(refusalOf(Person, { line_1: text })).toBe('accepted');
    },
  );
});

describe('a text or null', () => {
  const Place = Type.Object({ line_2: Type.Union([Type.Null(), writtenText(20)]) });

  it.each([
    [1, 'Line 2 is invalid'],
    ['a'.repeat(21), 'Line 2 is too long (maximum is 20 characters)'],
    ['4111111111111111', 'Line 2 must not contain a card number'],
  ])('is told of as a text: %j', (text, message) => {
    expect(refusalOf(Place, { line_2: text })).toEqual(unprocessable(message));
  });

  it('may be null', () => {
    expect(refusalOf(Place, { line_2: null })).toBe('accepted');
  });
});

describe('an e-mail address', () => {
  const Contact = Type.Object({ email: writtenText(254, { format: 'email' }) });

  it.each(['a@b', 'shopper+tag@shop.example', "o'brien@example.com", 'a@1.2.3.4'])('may be %s', (email) => {
    expect(refusalOf(Contact, { email })).toBe('accepted');
  });

  it.each([
    ['', "Email can't be blank"],
    ['shopper', 'Email is invalid'],
    ['@example.com', 'Email is invalid'],
    ['a@b@c', 'Email is invalid'],
    ['a b@example.com', 'Email is invalid'],
    ['a@-b.example', 'Email is invalid'],
    ['a@b.example\nBcc: c@d.example', 'Email is invalid'],
    [`a@${'a.'.repeat(20_000)}`, 'Email is too long (maximum is 254 characters)'],
    [`a@${'a'.repeat(60_000)}`, 'Email is too long (maximum is 254 characters)'],
  ])('is not %j', (email, message) => {
    expect(refusalOf(Contact, { email })).toEqual(unprocessable(message));
  });
});

describe('a choice', () => {
  it('names what there is to choose from, not what was sent', () => {
    const values: ['partial', 'all_or_nothing'] = ['partial', 'all_or_nothing'];
    const message = 'Fulfilment must be one of partial, all_or_nothing';
    for (const choice of [Type.Enum(values), Type.Unsafe({ type: 'string', enum: values })])
      for (const fulfilment of ['4111111111111111', null, 1, ['partial']])
        expect(refusalOf(Type.Object({ fulfilment: choice }), { fulfilment })).toEqual(unprocessable(message));
  });
});

describe('what is not a body', () => {
  it('is a bad request', () => {
    expect(refusalOf(Type.Object({ page: Type.String() }), {}, 'querystring')).toEqual(
      badRequest('Invalid querystring'),
    );
  });
});
