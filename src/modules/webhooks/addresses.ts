import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** A name, or a literal address, leads to where webhooks may not go. */
export class PrivateAddress extends Error {
  constructor() {
    super('the address is not a public one');
    this.name = 'PrivateAddress';
  }
}

/** IPv4 that is not for the public: RFC 6890 and what followed it, multicast and reserved addresses. */
const privateRanges = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const;

/** IPv6: of the global unicast addresses those that are for documentation, or hide an IPv4 address. */
const globalUnicast = ['2000::', 3] as const;
const specialRanges = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const;

const unroutable = new BlockList();
for (const [address, prefix] of privateRanges) unroutable.addSubnet(address, prefix, 'ipv4');
for (const [address, prefix] of specialRanges) unroutable.addSubnet(address, prefix, 'ipv6');
const routable = new BlockList();
routable.addSubnet(...globalUnicast, 'ipv6');

/** Whether anybody on the internet may be at `address`, an IPv4 or IPv6 address. */
export function isPublicAddress(address: string): boolean {
  if (isIP(address) === 4) return !unroutable.check(address, 'ipv4');
  return isIP(address) === 6 && routable.check(address, 'ipv6') && !unroutable.check(address, 'ipv6');
}

/**
 * Whether the host of a URL is an address, and not a public one, or a name that always means the very machine (RFC 6761).
 * Other names are resolved when they are connected to.
 */
export function isPrivateHost(hostname: string): boolean {
  const address = hostname.replace(/^\[|\]$/g, '');
  return isIP(address) === 0 ? /(^|\.)localhost\.?$/i.test(hostname) : !isPublicAddress(address);
}

/**
 * Resolves a name for a connection that is about to be made, and fails with {@link PrivateAddress} where any of its
 * addresses is not public: a name that was asked for before may lead elsewhere by now.
 */
export const lookupPublic: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses = []) => {
    const [first] = addresses;
    if (error || !first) callback(error ?? new Error(`${hostname} has no address`), []);
    else if (!addresses.every(({ address }) => isPublicAddress(address))) callback(new PrivateAddress(), []);
    else if (options.all) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
};
