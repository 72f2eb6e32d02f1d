/** Of one failure after the other, whether this one is told: ever more rarely, for what lasts must not bury the log. */
export function isToBeTold(failures: number): boolean {
  return Number.isInteger(Math.log2(failures));
}
