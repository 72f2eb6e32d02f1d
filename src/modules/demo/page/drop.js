import { DropView } from './drop-view.js';
import { byId, CallFailed, call, showError } from './page.js';

const playEveryMs = 33;

/** The part of the page in which a crowd races for a few units. */
export function openDropSimulator() {
  let stopping = null;
  const preview = () => {
    if (!stopping && byId('race-form').checkValidity())
      new DropView().prepare(byId('units').valueAsNumber, byId('buyers').valueAsNumber);
  };
  byId('race-form').addEventListener('change', preview);
  preview();
  byId('stop').addEventListener('click', () => stopping?.abort());
  byId('race-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    if (stopping) return;
    stopping = new AbortController();
    setRunning(true);
    await runDrop(stopping.signal);
    setRunning(false);
    stopping = null;
  });
}

function setRunning(isRunning) {
  byId('start').disabled = isRunning;
  byId('start').textContent = isRunning ? 'Racing' : 'Start the drop';
  byId('stop').hidden = !isRunning;
}

async function runDrop(signal) {
  const buyers = byId('buyers').valueAsNumber;
  const view = new DropView();
  showError(byId('race-error'), null);
  try {
    const body = { units: byId('units').valueAsNumber };
    const drop = await (await call('/demo/drops', { body, signal })).json();
    view.begin(drop, buyers);
    const fault = await watchRace(drop, buyers, view, signal);
    if (fault) showError(byId('race-error'), fault);
    view.end(await (await call(`/demo/drops/${drop.id}`, { signal })).json());
  } catch (error) {
    view.abandon();
    showError(
      byId('race-error'),
      signal.aborted ? 'Stopped. Orders on their way still come to their end.' : error.message,
    );
  }
}

/** Returns what went wrong on the way, or null, when all that happened has been shown. */
async function watchRace(drop, buyers, view, signal) {
  const body = { buyers, declined_percent: byId('declined').valueAsNumber };
  const response = await call(`/demo/drops/${drop.id}/race`, { body, signal });
  const playback = new Playback(view, Number(byId('speed').value));
  const shown = playback.play(signal);
  let end = null;
  try {
    for await (const news of newsIn(response.body)) {
      if (news.isOver) end = news;
      else playback.add(news);
    }
  } finally {
    playback.complete();
    await shown;
  }
  if (!end) throw new CallFailed('The connection to the shop broke in mid-race.');
  return end.fault;
}

/** One JSON text in each line. */
async function* newsIn(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (text + value).split('\n');
    text = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

/** Shows what happens as it comes, and from the start of the sale on so many times slower than it happened. */
class Playback {
  #view;
  #slowdown;
  #turns = [];
  #next = 0;
  #sale = null;
  #isComplete = false;

  constructor(view, slowdown) {
    this.#view = view;
    this.#slowdown = slowdown;
  }

  add({ turns = [], saleAtMs }) {
    this.#turns.push(...turns);
    if (saleAtMs === undefined) return;
    this.#sale = { atMs: saleAtMs, shownSinceMs: performance.now() };
    this.#view.startSale(saleAtMs);
  }

  /** No more will come. */
  complete() {
    this.#isComplete = true;
  }

  async play(signal) {
    while (!signal.aborted && !(this.#isComplete && this.#next === this.#turns.length)) {
      const playheadMs = this.#playheadMs();
      for (; this.#turns[this.#next]?.[2] <= playheadMs; this.#next++) this.#view.apply(this.#turns[this.#next]);
      this.#view.draw(Math.min(playheadMs, this.#turns.at(-1)?.[2] ?? 0));
      await new Promise((resolve) => setTimeout(resolve, playEveryMs));
    }
  }

  #playheadMs() {
    if (!this.#sale) return Number.POSITIVE_INFINITY;
    return this.#sale.atMs + (performance.now() - this.#sale.shownSinceMs) / this.#slowdown;
  }
}
