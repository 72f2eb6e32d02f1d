import { createHmac, timingSafeEqual } from 'node:crypto';

/** Where a page begins or ends: right after, or right before, the product of that id. */
export type PagePosition = Readonly<{ direction: 'after' | 'before'; id: string }>;

const tagLength = 12;
const positionLength = 17;

/**
 * The opaque key of a page position: direction and id, and a tag (HMAC-SHA-256, RFC 2104, cut to 96 bits) that only
 * holders of `secret` can make. The same position always has the same key.
 */
export function encodePageKey(position: PagePosition, secret: Buffer): string {
  const body = Buffer.alloc(positionLength);
  body[0] = position.direction === 'after' ? 1 : 2;
  body.set(Buffer.from(position.id.replaceAll('-', ''), 'hex'), 1);
  return Buffer.concat([body, tagOf(body, secret)]).toString('base64url');
}

/** The position that `key` stands for, or null when this shop never made that key. */
export function decodePageKey(key: string, secret: Buffer): PagePosition | null {
  const bytes = Buffer.from(key, 'base64url');
  const isCanonical = bytes.length === positionLength + tagLength && bytes.toString('base64url') === key;
  if (!isCanonical) return null;
  const body = bytes.subarray(0, positionLength);
  if (!timingSafeEqual(tagOf(body, secret), bytes.subarray(positionLength))) return null;
  return { direction: body[0] === 1 ? 'after' : 'before', id: uuidFrom(body.subarray(1)) };
}

function tagOf(body: Buffer, secret: Buffer): Buffer {
  return createHmac('sha256', secret).update(body).digest().subarray(0, tagLength);
}

function uuidFrom(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
