import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Static } from 'typebox';
import { sendRefusal } from '../../http/problem.ts';
import { accepted, type Result, refused } from '../../shared/refusal.ts';
import { DropBody, DropParams, RaceBody } from './demo.schema.ts';
import { type DropMaker, getDrop, makeDrop } from './demo.service.ts';
import { type DemoFile, readDemoFiles } from './demo-files.ts';
import { type Race, type RaceNews, startRace } from './race.ts';

type DropRequest = FastifyRequest<{ Body: Static<typeof DropBody> }>;
type FiguresRequest = FastifyRequest<{ Params: Static<typeof DropParams> }>;
type RaceRequest = FastifyRequest<{ Params: Static<typeof DropParams>; Body: Static<typeof RaceBody> }>;

/** One race at a time: two would only be in each other's way. */
type Desk = DropMaker & { isRacing: boolean };

/** Nothing but what this server has, and nothing inline. */
const contentSecurityPolicy = [
  "default-src 'none'",
  ...['script-src', 'style-src', 'img-src', 'connect-src'].map((kind) => `${kind} 'self'`),
  ...['base-uri', 'form-action', 'frame-ancestors'].map((kind) => `${kind} 'none'`),
].join('; ');

/** Below the time after which an answer that goes on is cut. */
const longestRaceMs = 30_000;

/** The demonstration page, and what it needs beyond the public API. */
export async function demoRoutes(app: FastifyInstance, maker: DropMaker): Promise<void> {
  const desk: Desk = { ...maker, isRacing: false };
  for (const file of await readDemoFiles()) app.get(file.url, async (request, reply) => sendFile(request, reply, file));

  app.post('/demo/drops', { schema: { body: DropBody } }, async (request: DropRequest, reply) =>
    unkept(reply)
      .code(201)
      .send(await makeDrop(desk, request.body.units)),
  );

  app.get('/demo/drops/:id', { schema: { params: DropParams } }, async (request: FiguresRequest, reply) => {
    const drop = await getDrop(desk.database, desk.currency, request.params.id);
    return drop.ok ? unkept(reply).send(drop.value) : sendRefusal(request, reply, drop.refusal);
  });

  app.post(
    '/demo/drops/:id/race',
    { schema: { params: DropParams, body: RaceBody } },
    async (request: RaceRequest, reply) => {
      const race = await startOnlyRace(desk, request, reply);
      if (!race.ok) return sendRefusal(request, reply, race.refusal);
      unkept(reply).type('application/x-ndjson; charset=utf-8');
      return reply.send(Readable.from(linesOf(race.value.news)));
    },
  );
}

function sendFile(request: FastifyRequest, reply: FastifyReply, { type, bytes, etag }: DemoFile): FastifyReply {
  reply.header('Cache-Control', 'public, no-cache').header('ETag', etag);
  if (request.headers['if-none-match'] === etag) return reply.code(304).send();
  reply.header('Content-Security-Policy', contentSecurityPolicy).header('Referrer-Policy', 'no-referrer');
  return reply.type(type).send(bytes);
}

function unkept(reply: FastifyReply): FastifyReply {
  return reply.header('Cache-Control', 'no-store');
}

async function startOnlyRace(desk: Desk, request: RaceRequest, reply: FastifyReply): Promise<Result<Race>> {
  if (desk.isRacing) return refused('conflict', 'Another race is under way; try again when it has ended');
  desk.isRacing = true;
  const race = await startRaceOf(desk, request, reply).catch((error) => {
    desk.isRacing = false;
    throw error;
  });
  const leave = (): void => {
    desk.isRacing = false;
  };
  if (race.ok) void race.value.over.then(leave);
  else leave();
  return race;
}

/** It ends with the page that watches it, and by itself in time. */
async function startRaceOf(desk: Desk, request: RaceRequest, reply: FastifyReply): Promise<Result<Race>> {
  const { params, body, raw } = request;
  const drop = await getDrop(desk.database, desk.currency, params.id);
  if (!drop.ok) return drop;
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  const { localAddress = '127.0.0.1', localPort = 0 } = raw.socket;
  const options = {
    host: localAddress,
    port: localPort,
    productId: drop.value.product_id,
    buyers: body.buyers,
    declinedPercent: body.declined_percent,
  };
  return accepted(startRace(options, AbortSignal.any([gone.signal, AbortSignal.timeout(longestRaceMs)])));
}

async function* linesOf(news: AsyncIterable<RaceNews>): AsyncGenerator<string> {
  for await (const item of news) yield `${JSON.stringify(item)}\n`;
}
