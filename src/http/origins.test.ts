import { describe, expect, it } from 'vitest';
import { originCheck } from './origins.ts';

const check = originCheck(['https://shop.example', 'http://localhost:5173']);

describe('an origin may write', () => {
  it.each([
    ['none, as from a program', undefined, 'api.example'],
    ['a listed one', 'https://shop.example', 'api.example'],
    ['a listed one with a port', 'http://localhost:5173', 'api.example'],
    ['the same host', 'https://api.example', 'api.example'],
    ['the same host and port', 'http://127.0.0.1:3000', '127.0.0.1:3000'],
    ['the same IPv6 address', 'http://[::1]:3000', '[::1]:3000'],
    ['the same host in other letters', 'https://api.example', 'API.Example'],
    ['the same host with the port that goes without saying', 'https://api.example', 'api.example:443'],
    ['the same host, plain', 'http://api.example', 'api.example:80'],
  ])('%s', (_, origin, host) => {
    expect(check(origin, host)).toBe(true);
  });

  it.each([
    ['null', 'null', 'api.example'],
    ['an empty one', '', 'api.example'],
    ['another host', 'https://evil.example', 'api.example'],
    ['a host of which ours is a part', 'https://api.example.evil.example', 'api.example'],
    ['a host that is a part of ours', 'https://example', 'api.example'],
    ['ours as user name', 'https://api.example@evil.example', 'api.example'],
    ['another port', 'https://api.example:8443', 'api.example'],
    ['another port of a listed host', 'http://localhost:5174', 'api.example'],
    ['a listed host with another scheme', 'http://shop.example', 'api.example'],
    ['a listed one with a path', 'https://shop.example/', 'api.example'],
    ['two', 'https://evil.example, https://api.example', 'api.example'],
    ['a local file', 'file://', ''],
    ['a file where no host is named', 'file://', undefined],
    ['any where no host is named', 'https://api.example', undefined],
  ])('but not %s', (_, origin, host) => {
    expect(check(origin, host)).toBe(false);
  });
});
