import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** A request as it arrived. */
export type Received = Readonly<{ path: string; headers: IncomingHttpHeaders; body: string }>;

/** Answers a request, or does not. */
export type Answering = (response: ServerResponse) => void | Promise<void>;

/** A shop's own server, to which webhooks are sent. */
export type WebhookReceiver = Readonly<{
  url: string;
  port: number;
  received: Received[];
  /** How requests are answered from now on. */
  answer(answering: Answering): void;
  close(): Promise<void>;
}>;

/** Answers with a status and nothing else. */
export function withStatus(status: number): Answering {
  return (response) => void response.writeHead(status).end();
}

/** Opens a receiver that answers with 204. Close it when done. */
export async function openReceiver(port = 0): Promise<WebhookReceiver> {
  const received: Received[] = [];
  let answering = withStatus(204);
  const server = createServer(async (request, response) => {
    received.push({ path: request.url ?? '', headers: request.headers, body: await text(request) });
    await answering(response);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const { port: taken } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${taken}/hooks`,
    port: taken,
    received,
    answer: (next) => {
      answering = next;
    },
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
