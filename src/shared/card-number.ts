/** Digits in groups, with spaces, dots, slashes, dashes or what cannot be seen between two groups, three at most. */
const digitRuns = /\d+(?:[\s._/\-\u00b7\u2010-\u2015\u2212\p{Cf}]{1,3}\d+)*/gu;
/** Of the tokens that are UUIDs, one in some thousands has a run of digits that happens to be a valid card number. */
const uuids = /\b[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}\b/giu;
const shortestCard = 13;
const longestCard = 19;

/**
 * Whether `text` holds what looks like a card number: 13 to 19 digits, alone or in groups, with a valid check digit
 * (ISO/IEC 7812-1, the Luhn formula). Full-width and other compatibility digits count as digits; UUIDs are passed over.
 */
export function containsCardNumber(text: string): boolean {
  if (isPlainlyNone(text)) return false;
  const runs = text.normalize('NFKC').replace(uuids, 'uuid').match(digitRuns) ?? [];
  return runs.some((run) => hasCardAmong(run.split(/\D+/)));
}

/** Nearly every text is ASCII with few digits. Outside of ASCII one character may stand for several digits. */
function isPlainlyNone(text: string): boolean {
  let digits = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) return false;
    if (code >= 0x30 && code <= 0x39) digits++;
  }
  return digits < shortestCard;
}

/** Groups are joined from left to right, so that "card, then expiry date" is found as well as the card alone. */
function hasCardAmong(groups: readonly string[]): boolean {
  return groups.some((_, start) => {
    let digits = '';
    for (const group of groups.slice(start, start + longestCard)) {
      digits += group;
      if (digits.length > longestCard) return false;
      if (digits.length >= shortestCard && passesLuhn(digits)) return true;
    }
    return false;
  });
}

function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let index = 0; index < digits.length; index++) {
    const digit = Number(digits[digits.length - 1 - index]);
    const doubled = index % 2 === 1 ? digit * 2 : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return sum % 10 === 0;
}
