import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';

type HeardEvent = Readonly<{ id: string; event: string; data: unknown }>;

/** A client of server-sent events that does no more than read what comes. */
export type EventListener = Readonly<{
  status: number;
  headers: IncomingHttpHeaders;
  /** All that has come, as it came. */
  text(): string;
  events(): HeardEvent[];
  /** How the answer has ended, null while it goes on. */
  end(): 'whole' | 'cut' | null;
  leave(): void;
}>;

/** Asks for what is at `url`, on a connection of its own, and returns once the head of the answer is there. */
export async function listenTo(url: string, headers: Record<string, string> = {}): Promise<EventListener> {
  const sent = request(url, { headers, agent: false }).end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  let text = '';
  let end: ReturnType<EventListener['end']> = null;
  response.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  response.on('error', () => undefined);
  response.on('close', () => {
    end = response.complete ? 'whole' : 'cut';
  });
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text: () => text,
    events: () => eventsIn(text),
    end: () => end,
    leave: () => void sent.destroy(),
  };
}

/** Those that are whole. */
function eventsIn(text: string): HeardEvent[] {
  const blocks = text.split('\n\n').slice(0, -1);
  const fields = blocks.map((block) => new Map(block.split('\n').map(fieldOf)));
  return fields.flatMap((field) => {
    const [id, event, data] = [field.get('id'), field.get('event'), field.get('data')];
    return data === undefined ? [] : [{ id: String(id), event: String(event), data: JSON.parse(data) as unknown }];
  });
}

function fieldOf(line: string): [name: string, value: string] {
  const colon = line.indexOf(': ');
  return [line.slice(0, colon), line.slice(colon + 2)];
}
