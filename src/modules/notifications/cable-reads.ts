import { setTimeout as sleep } from 'node:timers/promises';
import { Turns } from '../../platform/turns.ts';
import { Unavailable } from '../../shared/refusal.ts';
import { findOffsetBefore, readHistory } from './history.sql.ts';
import {
  findBasketStream,
  type Notifications,
  type OutcomeEvent,
  renderMessage,
  type Stream,
} from './notifications.service.ts';

/** Few, so that thousands of clients that come back at once leave the database to those who shop. */
const readsAtOnce = 4;
/** Orders are read in batches, two at a time whoever asks: this many fill one, where few would wait for each other. */
const messagesAtOnce = 500;
const retryAfterMs = 1_000;
const outageReportsMs = 1_000;

/** Whether somebody still waits for it. */
export type IsWanted = () => boolean;

/**
 * What all sockets of a process read: a few reads at a time, in order of arrival, one for all who want the same
 * message, each tried again until it succeeds or nobody wants it any more.
 */
export class CableReads {
  readonly #notifications: Notifications;
  readonly #onError: (error: Error) => void;
  readonly #readsInTurn = new Turns(readsAtOnce);
  readonly #messagesInTurn = new Turns(messagesAtOnce);
  readonly #messages = new Map<string, Promise<string | undefined>>();
  #nextOutageReportAt = 0;

  constructor(notifications: Notifications, onError: (error: Error) => void) {
    this.#notifications = notifications;
    this.#onError = onError;
  }

  /** The stream of the basket that `token` opens; null when it opens none, undefined when no longer wanted. */
  findStream(token: string, isWanted: IsWanted): Promise<Stream | null | undefined> {
    return whileWanted(isWanted, () =>
      this.#attempt(async () => (isWanted() ? findBasketStream(this.#notifications, token) : undefined)),
    );
  }

  /** The message that tells of `event`, as JSON; undefined when no longer wanted. */
  renderMessage(event: OutcomeEvent, isWanted: IsWanted): Promise<string | undefined> {
    return whileWanted(isWanted, () => this.#renderShared(event));
  }

  /** The offset behind which a basket's events since that time stand, null when there were none; undefined as above. */
  findOffsetBefore(
    basketId: string,
    sinceSeconds: number,
    isWanted: IsWanted,
  ): Promise<{ offset: number | null } | undefined> {
    const find = async () => ({
      offset: await findOffsetBefore(this.#notifications.reader, { basketId, sinceSeconds }),
    });
    return whileWanted(isWanted, () => this.#attempt(async () => (isWanted() ? find() : undefined)));
  }

  /** The first page of a stream's events beyond `after`, up to `through`; undefined when no longer wanted. */
  readHistory(
    range: { basketId: string; after: number; through: number },
    isWanted: IsWanted,
  ): Promise<OutcomeEvent[] | undefined> {
    return whileWanted(isWanted, () =>
      this.#attempt(async () => (isWanted() ? readHistory(this.#notifications.reader, range) : undefined)),
    );
  }

  #renderShared(event: OutcomeEvent): Promise<string | undefined> {
    const render = async (): Promise<string> => JSON.stringify(await renderMessage(this.#notifications, event));
    const message =
      this.#messages.get(event.id) ??
      this.#attempt(render, this.#messagesInTurn).finally(() => this.#messages.delete(event.id));
    this.#messages.set(event.id, message);
    return message;
  }

  /** Undefined after a failure, once it is time to try again. */
  async #attempt<T>(read: () => Promise<T>, turns = this.#readsInTurn): Promise<T | undefined> {
    try {
      return await turns.run(read);
    } catch (error) {
      this.#report(error as Error);
      await sleep(retryAfterMs * (0.5 + Math.random()), undefined, { ref: false });
      return undefined;
    }
  }

  /** While the database is away every socket fails alike: one report a second tells it all. */
  #report(error: Error): void {
    const now = performance.now();
    if (error instanceof Unavailable && now < this.#nextOutageReportAt) return;
    this.#nextOutageReportAt = now + outageReportsMs;
    this.#onError(error);
  }
}

async function whileWanted<T>(isWanted: IsWanted, attempt: () => Promise<T | undefined>): Promise<T | undefined> {
  while (isWanted()) {
    const result = await attempt();
    if (result !== undefined) return result;
  }
  return undefined;
}
