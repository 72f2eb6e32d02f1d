import type { Logger } from 'pino';

/**
 * Ends the process with status 1 on an error or a rejection that nobody caught, and logs it: after that nobody knows what
 * state the program is in. A supervisor starts another one; what this one had in hand is taken over like a crash's.
 */
export function endOnTheUnexpected(logger: Logger): void {
  process.on('uncaughtException', (error) => {
    // Of this severity, a line is written before the call returns.
    logger.fatal({ err: error }, `Ended by an error that nobody caught: ${error.message}`);
    process.exit(1);
  });
}
