import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { Duplex } from 'node:stream';

/** Something like the load balancer in front of a shop of several nodes. */
export type Balancer = Readonly<{
  address: string;
  /** From now on requests go to these, in turn, as far as they say that they are ready. */
  setNodes(addresses: readonly string[]): void;
  close(): Promise<void>;
}>;

const probeEveryMs = 100;

/** Passes requests and upgrades on to its nodes in turn, each over a connection of its own. No request is sent twice. */
export async function openBalancer(): Promise<Balancer> {
  let nodes: readonly string[] = [];
  let ready: readonly string[] = [];
  let turn = 0;
  const nextNode = (): string => ready[turn++ % ready.length] ?? '';
  const probing = setInterval(async () => {
    const answers = await Promise.all(nodes.map(isReady));
    ready = nodes.filter((_, index) => answers[index]);
  }, probeEveryMs);
  const server = createServer((incoming, answer) => void passOn(incoming, answer, nextNode));
  server.on('upgrade', (incoming, socket, head) => void passUpgradeOn(incoming, socket, head, nextNode));
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    setNodes: (addresses) => {
      nodes = [...addresses];
      ready = nodes;
    },
    close: () => {
      clearInterval(probing);
      return close(server);
    },
  };
}

function isReady(address: string): Promise<boolean> {
  return fetch(`${address}/ready`).then(
    (response) => response.ok,
    () => false,
  );
}

async function passOn(incoming: IncomingMessage, answer: ServerResponse, nextNode: () => string): Promise<void> {
  const body = Buffer.concat(await incoming.toArray());
  const { method, url, headers } = incoming;
  try {
    const sent = request(nextNode() + url, { method, headers: { ...headers, connection: 'close' }, agent: false });
    sent.end(body);
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    const { connection: _, 'transfer-encoding': __, ...rest } = response.headers;
    const text = Buffer.concat(await response.toArray());
    answer.writeHead(response.statusCode ?? 502, { ...rest, 'content-length': text.length }).end(text);
  } catch (error) {
    answer.writeHead(502).end(JSON.stringify({ error: String(error) }));
  }
}

async function passUpgradeOn(
  incoming: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  nextNode: () => string,
): Promise<void> {
  const { hostname, port } = new URL(nextNode());
  const upstream = connect(Number(port), hostname);
  const end = (): void => {
    socket.destroy();
    upstream.destroy();
  };
  for (const stream of [socket, upstream]) stream.on('error', end).on('close', end);
  const lines = incoming.rawHeaders.flatMap((name, index, all) =>
    index % 2 === 0 ? [`${name}: ${all[index + 1]}`] : [],
  );
  upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
  upstream.write(head);
  upstream.pipe(socket).pipe(upstream);
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}
