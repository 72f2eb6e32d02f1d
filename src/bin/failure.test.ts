import { expect, it } from 'vitest';
import { reasonOf } from './failure.ts';

it('says in one line what went wrong', () => {
  expect(reasonOf(new Error('No space left'))).toBe('No space left');
  expect(reasonOf(new TypeError(''))).toBe('TypeError');
  expect(reasonOf('gone')).toBe('gone');
  expect(reasonOf(new AggregateError([new Error('IPv6'), new Error('IPv4')]))).toBe('IPv6; IPv4');
});

it('keeps the lines of a message apart where it puts them into one', () => {
  const message = 'PostgreSQL did not start\n  folder: /data\n\n  its last lines:\n    no memory.\n    shut down\n';
  expect(reasonOf(new Error(message))).toBe(
    'PostgreSQL did not start; folder: /data; its last lines: no memory. shut down',
  );
});
