import type { Ajv, ErrorObject } from 'ajv';
import type { FastifySchemaValidationError } from 'fastify';
import { containsCardNumber } from '../shared/card-number.ts';
import { Refused } from '../shared/refusal.ts';

/** The e-mail syntax of the HTML standard: what a browser's own form lets through. */
const email =
  /^[\w.!#$%&'*+/=?^`{|}~-]+@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i;

/** Options of the validator: bodies are taken as they are, nothing is coerced, filled in or removed. */
export const validatorOptions = {
  allErrors: true,
  verbose: true,
  coerceTypes: false,
  useDefaults: false,
  removeAdditional: false,
} as const;

/** Teaches the validator what the schemas of this project use beside JSON Schema. */
export function extendValidator(ajv: Ajv): Ajv {
  ajv.addFormat('email', email);
  ajv.addFormat('uuid', true);
  ajv.addFormat('date-time', true);
  ajv.addKeyword({
    keyword: 'x-plain-text',
    type: 'string',
    validate: (_: boolean, text: string) => isPlainText(text),
  });
  ajv.addKeyword({
    keyword: 'x-no-card-number',
    type: 'string',
    validate: (_: boolean, text: string) => !containsCardNumber(text),
  });
  return ajv;
}

/**
 * Turns what the validator found into the refusal that clients of the API know: 400 for what cannot be read or lacks a
 * whole object, else 422 with one message for each field.
 */
export function refusalOfValidation(errors: readonly FastifySchemaValidationError[], part: string): Refused {
  if (part !== 'body') return new Refused('bad_request', `Invalid ${part}`);
  const faults = errors as readonly ErrorObject[];
  const missing = faults.map(missingObject).find((name) => name !== null);
  if (missing) return new Refused('bad_request', `Missing parameter: ${missing}`);
  // Of what may be null or a text, only what is wrong with the text is told.
  const told = faults.filter((fault) => fault.schema !== 'null');
  return new Refused('unprocessable', ...messagesByField(told).values());
}

/** The first fault of a field is the one that is told. */
function messagesByField(faults: readonly ErrorObject[]): Map<string, string> {
  const messages = new Map<string, string>();
  for (const fault of faults) {
    const field = fieldOf(fault);
    if (!messages.has(field)) messages.set(field, `${humanName(field)} ${complaint(fault)}`);
  }
  return messages;
}

/** The name of an object that the body should hold and does not, or null. */
function missingObject(fault: ErrorObject): string | null {
  const properties: Record<string, { type?: string }> = fault.parentSchema?.properties ?? {};
  const isRoot = fault.instancePath === '';
  if (isRoot && fault.keyword === 'type')
    return Object.keys(properties).find((name) => properties[name]?.type === 'object') ?? 'body';
  if (isRoot && fault.keyword === 'required') {
    const name: string = fault.params.missingProperty;
    return properties[name]?.type === 'object' ? name : null;
  }
  const isObjectOfRoot = fault.keyword === 'type' && fault.schema === 'object';
  return isObjectOfRoot ? fieldOf(fault) : null;
}

function fieldOf(fault: ErrorObject): string {
  return fault.keyword === 'required' ? fault.params.missingProperty : (fault.instancePath.split('/').pop() ?? '');
}

function complaint(fault: ErrorObject): string {
  if (fault.keyword === 'required') return complaintOfMissing(fault);
  const choices: readonly string[] | undefined = fault.parentSchema?.enum;
  if (choices) return `must be one of ${choices.join(', ')}`;
  if (fault.data === null && fault.schema === 'string') return "can't be blank";
  const { limit, type } = fault.params;
  switch (fault.keyword) {
    case 'type':
      return type === 'integer' ? 'must be an integer' : 'is invalid';
    case 'minLength':
    case 'pattern':
      return "can't be blank";
    case 'maxLength':
      return `is too long (maximum is ${limit} characters)`;
    case 'minimum':
      return `must be greater than or equal to ${limit}`;
    case 'maximum':
      return `must be less than or equal to ${limit}`;
    case 'x-no-card-number':
      return 'must not contain a card number';
    default:
      return 'is invalid';
  }
}

function complaintOfMissing(fault: ErrorObject): string {
  const wanted = fault.parentSchema?.properties?.[fault.params.missingProperty];
  return wanted?.type === 'integer' ? 'must be an integer' : "can't be blank";
}

/** `line_1` is called Line 1. */
function humanName(field: string): string {
  const words = field.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Text that PostgreSQL can store and any client can read: no NUL, no half of a surrogate pair. */
function isPlainText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}
