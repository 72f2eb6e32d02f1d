import { createHmac } from 'node:crypto';

/** Crockford's Base32: no I, L, O, U, so a number can be read out on the telephone. */
// biome-ignore lint/security/noSecrets: an alphabet, published by its author.
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const halfBits = 20;
const halfMask = (1 << halfBits) - 1;
const rounds = 4;

/** How many orders can be numbered before numbers would repeat: 2^40. */
export const orderNumberLimit = 2 ** (2 * halfBits);

/**
 * The number of the `sequence`-th order, such as `7K3M-Q0XD`. A Feistel network with four HMAC-SHA-256 rounds (Luby and
 * Rackoff, 1988) permutes 40 bits: no two orders share a number, and nobody without `key` can tell the next one.
 */
export function orderNumber(sequence: number, key: Buffer): string {
  if (!Number.isSafeInteger(sequence) || sequence < 0 || sequence >= orderNumberLimit)
    throw new RangeError(`Order sequence ${sequence} is outside 0 to ${orderNumberLimit - 1}`);
  let left = Math.floor(sequence / (halfMask + 1));
  let right = sequence % (halfMask + 1);
  for (let round = 0; round < rounds; round++) [left, right] = [right, left ^ scramble(right, round, key)];
  return `${base32(left)}-${base32(right)}`;
}

function scramble(half: number, round: number, key: Buffer): number {
  return createHmac('sha256', key).update(`${round}:${half}`).digest().readUInt32BE(0) & halfMask;
}

function base32(half: number): string {
  return [15, 10, 5, 0].map((shift) => alphabet[(half >> shift) & 31]).join('');
}
