/** The fields of a product in an import file: every one is required in every line, and only one other may be there. */
export const importFields = ['sku', 'name', 'description', 'price_cents', 'currency', 'stock'] as const;

const optionalField = 'max_per_order';

export type ImportField = (typeof importFields)[number] | typeof optionalField;

/** The fields of a line, each as the text that stands in the file. */
export type ImportTexts = Readonly<Record<(typeof importFields)[number], string> & { max_per_order?: string }>;

/** A product as a line of a file wants it. `stock` is in units. */
export type ImportProduct = Readonly<{
  /** Where it stands in the file, for messages and for the books. */
  line: number;
  sku: string;
  name: string;
  description: string;
  priceCents: number;
  stock: number;
  /** In units; null: no limit; undefined: as it is, and none for a new product. */
  maxPerOrder?: number | null | undefined;
}>;

/** A product as it is in the catalogue now. */
export type CurrentProduct = Readonly<{
  id: string;
  sku: string;
  name: string;
  description: string;
  priceCents: number;
  maxPerOrder: number | null;
  sellable: number;
}>;

/** What a line asks of a product that exists: `stockDelta` in units. */
export type ProductChange = Readonly<{ details: boolean; stockDelta: number }>;

/** A value, or every reason why there is none. */
export type Checked<T> = Readonly<{ ok: true; value: T }> | Readonly<{ ok: false; faults: readonly string[] }>;

/** In UTF-16 code units. */
const longestSku = 100;
const longestName = 255;
const longestDescription = 10_000;
const largestNumber = 1_000_000_000;
const longestShown = 40;

const wholeNumber = /^(0|[1-9]\d{0,9})$/;
const controlCharacter = /\p{Cc}/u;

/** The product that the texts of line `line` describe, or all that is wrong with them. */
export function readProduct(texts: ImportTexts, line: number, currency: string): Checked<ImportProduct> {
  const faults = [
    ...faultsOfSku(texts.sku),
    ...faultsOfName(texts.name),
    ...faultsOfText('description', texts.description, longestDescription),
    ...faultsOfNumber('price_cents', texts.price_cents, 1),
    ...(texts.currency === currency ? [] : [`currency ${shown(texts.currency)} is not the shop's, ${currency}`]),
    ...faultsOfNumber('stock', texts.stock, 0),
    ...(texts.max_per_order ? faultsOfNumber(optionalField, texts.max_per_order, 1) : []),
  ];
  if (faults.length > 0) return { ok: false, faults };
  const { sku, name, description } = texts;
  const [priceCents, stock] = [Number(texts.price_cents), Number(texts.stock)];
  const maxPerOrder = limitIn(texts.max_per_order);
  return { ok: true, value: { line, sku, name, description, priceCents, stock, maxPerOrder } };
}

function limitIn(text: string | undefined): number | null | undefined {
  if (text === undefined) return undefined;
  return text === '' ? null : Number(text);
}

/** What has to change so that `current` is as `wanted`; its stock only `withStock`. Null when nothing has to. */
export function changeOf(wanted: ImportProduct, current: CurrentProduct, withStock: boolean): ProductChange | null {
  const details =
    wanted.name !== current.name ||
    wanted.description !== current.description ||
    wanted.priceCents !== current.priceCents ||
    (wanted.maxPerOrder !== undefined && wanted.maxPerOrder !== current.maxPerOrder);
  const stockDelta = withStock ? wanted.stock - current.sellable : 0;
  return details || stockDelta !== 0 ? { details, stockDelta } : null;
}

/** The texts of the JSON object `json`. A number counts as it is written: `1e3` and `10.0` are no whole numbers. */
export function readJsonTexts(json: string): Checked<ImportTexts> {
  const parsed = parseJson(json);
  if (!isObject(parsed)) return { ok: false, faults: ['not a JSON object'] };
  const faults = [...faultsOfFieldNames(Object.keys(parsed), 'field'), ...faultsOfTypes(parsed)];
  if (faults.length > 0) return { ok: false, faults };
  const texts = Object.entries(parsed).map(([field, value]) => [field, value === null ? '' : String(value)]);
  return { ok: true, value: Object.fromEntries(texts) as ImportTexts };
}

/** What is wrong with the names of an object's fields or of a header's columns, `kind` being the word for them. */
export function faultsOfFieldNames(names: readonly string[], kind: 'field' | 'column'): string[] {
  const required: readonly string[] = importFields;
  const known = [...required, optionalField];
  return [
    ...required.filter((name) => !names.includes(name)).map((name) => `${kind} ${name} is missing`),
    ...names.filter((name) => !known.includes(name)).map((name) => `unknown ${kind} ${shown(name)}`),
    ...names.filter((name, at) => names.indexOf(name) !== at).map((name) => `${kind} ${shown(name)} is there twice`),
  ];
}

/** A JSON number as it was written. */
class NumberText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  toString(): string {
    return this.text;
  }
}

type Reviver = (this: unknown, key: string, value: unknown, context: { source: string }) => unknown;

function parseJson(json: string): unknown {
  const keepNumberText: Reviver = (_key, value, context) =>
    typeof value === 'number' ? new NumberText(context.source) : value;
  try {
    return JSON.parse(json, keepNumberText as (key: string, value: unknown) => unknown);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof NumberText);
}

function faultsOfTypes(object: Record<string, unknown>): string[] {
  return [...importFields, optionalField]
    .filter((field) => Object.hasOwn(object, field))
    .flatMap((field) => {
      const value = object[field];
      if (field === 'price_cents' || field === 'stock')
        return value instanceof NumberText ? [] : [`${field} must be a JSON number`];
      if (field === optionalField)
        return value === null || value instanceof NumberText ? [] : [`${field} must be a JSON number or null`];
      return typeof value === 'string' ? [] : [`${field} must be a JSON string`];
    });
}

function faultsOfSku(sku: string): string[] {
  if (sku === '') return ['sku is empty'];
  if (sku !== sku.trim()) return ['sku must not begin or end with a space'];
  return [...faultsOfText('sku', sku, longestSku), ...faultsOfControls('sku', sku)];
}

function faultsOfName(name: string): string[] {
  if (name.trim() === '') return ['name is blank'];
  return [...faultsOfText('name', name, longestName), ...faultsOfControls('name', name)];
}

function faultsOfControls(field: string, text: string): string[] {
  return controlCharacter.test(text) && !text.includes('\0') ? [`${field} holds a control character`] : [];
}

function faultsOfText(field: string, text: string, longest: number): string[] {
  if (text.length > longest) return [`${field} is longer than ${longest} characters`];
  if (text.includes('\0')) return [`${field} holds a NUL character`];
  // What cannot be decoded as UTF-8 has become U+FFFD on the way here.
  if (!text.isWellFormed() || text.includes('\ufffd')) return [`${field} is not valid Unicode (UTF-8)`];
  return [];
}

function faultsOfNumber(field: string, text: string, least: number): string[] {
  const number = wholeNumber.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= largestNumber) return [];
  return [`${field} must be a whole number from ${least} to ${largestNumber}, not ${shown(text)}`];
}

/** Quoted, so that nothing in a file can pass for a message or command the terminal; and not endlessly long. */
function shown(text: string): string {
  const cut = text.length > longestShown ? `${text.slice(0, longestShown)}…` : text;
  return JSON.stringify(cut);
}
