/** The command was given something that it cannot work with: the caller's mistake, not a failure. */
export class UsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UsageError';
  }
}

/** What went wrong, in one line. */
export function reasonOf(error: unknown): string {
  // A host name with several addresses fails with one error for each, and none of its own.
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(reasonOf).join('; ');
  const message = error instanceof Error ? error.message || error.name : String(error);
  return inOneLine(message);
}

function inOneLine(message: string): string {
  const lines = message.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '').reduce((before, line) => before + joint(before) + line, '');
}

function joint(before: string): string {
  if (before === '') return '';
  return /[.,:;!?]$/.test(before) ? ' ' : '; ';
}
