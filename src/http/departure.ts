import type { Socket } from 'node:net';
import type { FastifyRequest } from 'fastify';
import type { Departure } from '../platform/coalescer.ts';
import { Refused } from '../shared/refusal.ts';

/** Whether the client of `request` has gone away. Costs nothing until it is looked at: there is no listener. */
export function departureOf(request: FastifyRequest): Departure {
  return new ClosedSocket(request.raw.socket);
}

class ClosedSocket implements Departure {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  get aborted(): boolean {
    return this.#socket.destroyed;
  }

  /** Read by nobody but the log: nothing was done for whoever is not there any more. */
  get reason(): Refused {
    return new Refused('request_timeout', 'The client has gone away');
  }
}
