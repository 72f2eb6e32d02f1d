import { createCipheriv } from 'node:crypto';

/** Crockford's Base32: no I, L, O, U, so a number can be read out on the telephone. */
// biome-ignore lint/security/noSecrets: an alphabet, published by its author.
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const halfBits = 20;
const halfMask = (1 << halfBits) - 1;
const rounds = 4;
const blockBytes = 16;

/** How many orders can be numbered before numbers would repeat: 2^40. */
export const orderNumberLimit = 2 ** (2 * halfBits);

/**
 * The numbers of the orders of those sequence numbers, such as `7K3M-Q0XD`. A Feistel network of four rounds (Luby and
 * Rackoff, 1988) over AES-256 permutes 40 bits: no two orders share a number, and nobody without `key` (32 bytes) can
 * tell the next one. All are made together, for setting up a cipher costs more than its blocks.
 */
export function orderNumbers(sequences: readonly number[], key: Buffer): string[] {
  sequences.forEach(checkSequence);
  let left = sequences.map((sequence) => Math.floor(sequence / (halfMask + 1)));
  let right = sequences.map((sequence) => sequence % (halfMask + 1));
  for (let round = 0; round < rounds; round++) {
    const scrambled = scramble(right, round, key);
    [left, right] = [right, left.map((half, index) => half ^ (scrambled[index] ?? 0))];
  }
  return left.map((half, index) => `${base32(half)}-${base32(right[index] ?? 0)}`);
}

function checkSequence(sequence: number): void {
  if (!Number.isSafeInteger(sequence) || sequence < 0 || sequence >= orderNumberLimit)
    throw new RangeError(`Order sequence ${sequence} is outside 0 to ${orderNumberLimit - 1}`);
}

/** Twenty bits for each half: the cipher's block of the round and the half, which no two of them share. */
function scramble(halves: readonly number[], round: number, key: Buffer): number[] {
  const blocks = Buffer.alloc(halves.length * blockBytes);
  halves.forEach((half, index) => {
    blocks.writeUInt32BE(round, index * blockBytes);
    blocks.writeUInt32BE(half, index * blockBytes + 4);
  });
  const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
  const scrambled = cipher.update(blocks);
  return halves.map((_, index) => scrambled.readUInt32BE(index * blockBytes) & halfMask);
}

function base32(half: number): string {
  return [15, 10, 5, 0].map((shift) => alphabet[(half >> shift) & 31]).join('');
}
