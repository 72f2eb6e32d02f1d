import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

type Direction = 'toServer' | 'toClient';

/** What a hole swallows: both directions of all connections, present and new, unless told otherwise. */
export type Hole = Readonly<{
  directions?: readonly Direction[];
  /** Which connections fall into it, by their number in the order of their opening. */
  swallows?: (connection: number) => boolean;
}>;

export type TcpProxyOptions = Readonly<{
  /** Cuts a connection at the first COMMIT: before it gets through, or with its answer. */
  cutAtCommit?: 'before' | 'after';
  /** A keyword whose first occurrence on each connection becomes one that the server refuses. */
  spoil?: string;
}>;

/** A way to a server that can be cut, or fall silent. */
export type TcpProxy = Readonly<{
  /** The server's address by way of the proxy. */
  url: string;
  /** Ends all connections; new ones are let through. */
  cut(): void;
  /**
   * Stops to forward, the end of a connection included, as a network does that loses every packet. What is sent
   * meanwhile is sent again later: it arrives after {@link heal}, even from those who have given up since.
   */
  swallow(hole?: Hole): void;
  /** Makes those who are connected now hear nothing from the server any more. New connections are let through. */
  fallSilent(): void;
  /** Forwards again, what was held back first. */
  heal(): void;
  /** Lets new connections lead to another server. */
  redirect(target: string): void;
  close(): Promise<void>;
}>;

/** One connection: the client's half and the server's. */
type Link = Readonly<{ number: number; sources: Readonly<Record<Direction, Socket>> }>;

const bothDirections: readonly Direction[] = ['toServer', 'toClient'];

/** Opens a proxy on a port of its own to the server that `target` names. Close it when done. */
export async function openTcpProxy(target: string, options: TcpProxyOptions = {}): Promise<TcpProxy> {
  let { hostname, port } = new URL(target);
  const links = new Set<Link>();
  let connections = 0;
  let hole: Hole | null = null;
  const server = createServer((client) => {
    const upstream = connect(Number(port || 5432), hostname);
    const link = { number: connections++, sources: { toServer: client, toClient: upstream } };
    links.add(link);
    const filters = filtersOf(options, () => endLink(link));
    forward(client, upstream, filters.toServer);
    forward(upstream, client, filters.toClient);
    client.on('close', () => links.delete(link));
    if (hole) holdBack(link, hole);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => links.forEach(endLink);
  return {
    url: addressBy(target, (server.address() as AddressInfo).port),
    cut,
    swallow: (swallowing = {}) => {
      hole = swallowing;
      for (const link of links) holdBack(link, hole);
    },
    fallSilent: () => {
      for (const link of links) holdBack(link, { directions: ['toClient'] });
    },
    heal: () => {
      hole = null;
      for (const { sources } of links) for (const source of Object.values(sources)) source.resume();
    },
    redirect: (other) => {
      ({ hostname, port } = new URL(other));
    },
    close: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function endLink({ sources }: Link): void {
  for (const socket of Object.values(sources)) socket.destroy();
}

function holdBack(link: Link, { directions = bothDirections, swallows = () => true }: Hole): void {
  if (!swallows(link.number)) return;
  for (const direction of directions) link.sources[direction].pause();
}

/** Returns what is to be passed on of a chunk, or null. */
type Filter = (chunk: Buffer) => Buffer | null;

function forward(from: Socket, to: Socket, filter: Filter): void {
  from.on('data', (data: Buffer) => {
    const chunk = filter(data);
    if (chunk) to.write(chunk);
  });
  // Not before what was sent has been passed on.
  from.on('error', () => undefined).on('close', () => to.destroySoon());
}

function filtersOf({ cutAtCommit, spoil }: TcpProxyOptions, end: () => void): Record<Direction, Filter> {
  let isCommitting = false;
  let isSpoilt = spoil === undefined;
  const toServer: Filter = (chunk) => {
    const spoiltAt = isSpoilt ? -1 : chunk.indexOf(spoil ?? '');
    if (spoiltAt >= 0) chunk.write('X', spoiltAt);
    isSpoilt ||= spoiltAt >= 0;
    isCommitting ||= cutAtCommit !== undefined && chunk.includes('COMMIT');
    if (!isCommitting || cutAtCommit === 'after') return chunk;
    end();
    return null;
  };
  const toClient: Filter = (chunk) => {
    if (isCommitting && chunk.includes('COMMIT')) end();
    return isCommitting ? null : chunk;
  };
  return { toServer, toClient };
}

function addressBy(target: string, port: number): string {
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  return url.href;
}
