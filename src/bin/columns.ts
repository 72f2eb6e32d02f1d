/** A cell; `right` for numbers. */
export type Column = Readonly<{ title: string; align?: 'left' | 'right' }>;

/** Rows below their titles, in columns as wide as they have to be. No cell can break its line. */
export function inColumns(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const cells = [columns.map((column) => column.title), ...rows.map((row) => row.map(onOneLine))];
  const widths = columns.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  const padded = (cell: string, at: number): string =>
    columns[at]?.align === 'right' ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0);
  return cells.map((row) => row.map(padded).join('  ').trimEnd()).join('\n');
}

/** Names and what belongs to them, one below the other; what is null is left out. */
export function inPairs(pairs: ReadonlyArray<readonly [name: string, value: string | null]>): string {
  const shown = pairs.flatMap(([name, value]) => (value === null ? [] : [[name, onOneLine(value)] as const]));
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}`.trimEnd()).join('\n');
}

/** What comes from elsewhere must neither break a line nor command the terminal. */
function onOneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}

/** An amount in minor units of `currency`, as people write it: `17.50 USD`. */
export function amountOf(cents: number, currency: string): string {
  const digits = new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits;
  return `${(cents / 10 ** (digits ?? 2)).toFixed(digits)} ${currency}`;
}
