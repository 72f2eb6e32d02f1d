import { userInfo } from 'node:os';

/** Whoever runs the command, for the books. A container may run under a number that has no name. */
export function operatorName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.()}`;
  }
}
