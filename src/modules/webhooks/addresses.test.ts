import { expect, it, test } from 'vitest';
import { isPrivateHost, isPublicAddress, lookupPublic, PrivateAddress } from './addresses.ts';

const refused = [
  ['this network', '0.0.0.0'],
  ['this network', '0.1.2.3'],
  ['private', '10.0.0.1'],
  ['shared by carriers', '100.64.0.1'],
  ['shared by carriers', '100.127.255.255'],
  ['loopback', '127.0.0.1'],
  ['loopback', '127.255.255.254'],
  ['link-local, where clouds keep their metadata', '169.254.169.254'],
  ['private', '172.16.0.1'],
  ['private', '172.31.255.255'],
  ['protocol assignments', '192.0.0.8'],
  ['documentation', '192.0.2.1'],
  ['private', '192.168.1.1'],
  ['benchmarks', '198.19.0.1'],
  ['documentation', '198.51.100.7'],
  ['documentation', '203.0.113.7'],
  ['multicast', '224.0.0.1'],
  ['reserved', '240.0.0.1'],
  ['broadcast', '255.255.255.255'],
  ['unspecified', '::'],
  ['loopback', '::1'],
  ['mapped IPv4', '::ffff:127.0.0.1'],
  ['mapped public IPv4', '::ffff:8.8.8.8'],
  ['compatible IPv4', '::127.0.0.1'],
  ['translated IPv4', '64:ff9b::7f00:1'],
  ['discard', '100::1'],
  ['Teredo', '2001::1'],
  ['documentation', '2001:db8::1'],
  ['6to4', '2002:7f00:1::'],
  ['documentation', '3fff::1'],
  ['unique local', 'fc00::1'],
  ['unique local', 'fdff::1'],
  ['link-local', 'fe80::1'],
  ['link-local with a zone', 'fe80::1%lo'],
  ['site-local', 'fec0::1'],
  ['multicast', 'ff02::1'],
  ['no address', 'localhost'],
] as const;

it.each(refused)('%s is not public: %s', (_, address) => {
  expect(isPublicAddress(address)).toBe(false);
});

it.each(['1.1.1.1', '9.255.255.255', '100.63.255.255', '172.32.0.1', '223.255.255.255', '2606:4700:4700::1111'])(
  '%s is public',
  (address) => {
    expect(isPublicAddress(address)).toBe(true);
  },
);

it.each(['http://2130706433', 'http://0x7f.1', 'http://[::1]', 'http://[::ffff:7f00:1]', 'http://127.1', 'http://0'])(
  'the literal address of %s is seen through',
  (url) => {
    expect(isPrivateHost(new URL(url).hostname)).toBe(true);
  },
);

it.each(['http://localhost', 'http://LOCALHOST.', 'http://erp.localhost', 'http://a.erp.localhost.'])(
  '%s is this very machine',
  (url) => {
    expect(isPrivateHost(new URL(url).hostname)).toBe(true);
  },
);

it.each(['shop.example', 'localhost.example', 'notlocalhost', '1.1.1.1'])(
  'of %s more is to be found out',
  (hostname) => {
    expect(isPrivateHost(hostname)).toBe(false);
  },
);

test.each([{ all: true }, { all: false }])('a name that leads to a private address is refused: %o', async (options) => {
  const failure = await new Promise((resolve) => lookupPublic('localhost', options, resolve));
  expect(failure).toBeInstanceOf(PrivateAddress);
});

test('a name that leads nowhere fails as it does elsewhere', async () => {
  const failure = await new Promise((resolve) => lookupPublic(`${'x'.repeat(64)}.invalid`, { all: true }, resolve));
  expect(failure).toMatchObject({ syscall: 'getaddrinfo' });
});
