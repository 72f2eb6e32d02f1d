import { byId, make, timeText } from './page.js';

/** In the order of the legend. */
const stages = {
  in_basket: 'in the basket',
  checking_out: 'checking out',
  accepted: 'accepted, paying',
  sold: 'sold',
  declined: 'declined',
  sold_out: 'too late',
  failed: 'failed',
};

const mostBars = 50;
const firstBarMs = 20;
const chartSize = { width: 400, height: 120 };

/** What is seen of one drop. */
export class DropView {
  #units = 0;
  #dots = [];
  #stageOf = [];
  #counts = {};
  #rates = new Rates();
  #tookMs = [];
  #saleAtMs = 0;
  #lastTurnMs = 0;
  #isDirty = false;

  /** Before a drop: what it would be. */
  prepare(units, buyers) {
    this.#units = units;
    this.#dots = Array.from({ length: buyers }, () => make('i'));
    this.#stageOf = Array.from({ length: buyers }, () => null);
    this.#counts = Object.fromEntries(Object.keys(stages).map((stage) => [stage, 0]));
    byId('dots').style.setProperty('--dot', `${dotSize(buyers)}px`);
    byId('dots').replaceChildren(...this.#dots);
    byId('legend').replaceChildren(...Object.entries(stages).map(legendItem));
    byId('tally').hidden = true;
    setPhase('ready', 'Press the button: a product with exactly that many units is made for it.');
    this.#isDirty = true;
    this.draw(0);
  }

  begin({ name, units }, buyers) {
    byId('clock').textContent = timeText(0);
    this.prepare(units, buyers);
    setPhase('filling', `${name}: ${buyers.toLocaleString()} buyers fill their baskets.`);
  }

  startSale(atMs) {
    this.#saleAtMs = atMs;
    setPhase('selling', 'The sale is open: everybody checks out.');
  }

  /** One buyer has reached a stage. */
  apply([buyer, stage, atMs, tookMs]) {
    const before = this.#stageOf[buyer];
    if (before) this.#counts[before]--;
    this.#counts[stage]++;
    this.#stageOf[buyer] = stage;
    this.#dots[buyer].dataset.stage = stage;
    this.#lastTurnMs = atMs;
    if (tookMs !== undefined) this.#rates.count(atMs - this.#saleAtMs, stage);
    if (stage === 'accepted') this.#tookMs.push(tookMs);
    this.#isDirty = true;
  }

  /** Shows what has been applied so far; it is `nowMs` in the race. */
  draw(nowMs) {
    if (this.#saleAtMs > 0) byId('clock').textContent = timeText(Math.max(0, nowMs - this.#saleAtMs));
    if (!this.#isDirty) return;
    this.#isDirty = false;
    const { sold, accepted } = this.#counts;
    const units = this.#units;
    // A unit that was given back may be sold again before it is heard here that it was given back.
    byId('left').textContent = Math.max(0, units - sold - accepted).toLocaleString();
    byId('meter-sold').style.width = `${(100 * sold) / units}%`;
    byId('meter-held').style.width = `${(100 * accepted) / units}%`;
    for (const stage of Object.keys(stages)) {
      const item = byId(`count-${stage}`);
      item.textContent = this.#counts[stage].toLocaleString();
      item.parentElement.hidden = stage === 'failed' && this.#counts.failed === 0;
    }
    this.#rates.draw();
  }

  /** Compares what the buyers were told with the shop's books. */
  end(books) {
    this.draw(this.#lastTurnMs);
    const { sold, declined, sold_out: tooLate } = this.#counts;
    const oversold = Math.max(0, books.sold + books.held - books.units);
    const addsUp = books.sold + books.held + books.sellable === books.units;
    const isExact = addsUp && oversold === 0 && books.sold === sold && (tooLate === 0 || books.sellable === 0);
    const tookMs = this.#lastTurnMs - this.#saleAtMs;
    byId('tally').dataset.state = isExact ? 'good' : 'bad';
    byId('tally-title').textContent = titleOf(isExact, sold, books.units);
    byId('tally-words').textContent =
      `${this.#dots.length.toLocaleString()} buyers, ${books.units.toLocaleString()} units, ${timeText(tookMs)}. ${wordsFor({ declined, tooLate, isSoldOut: books.sellable === 0 })}`;
    byId('figures').replaceChildren(
      ...figure('sold', sold.toLocaleString()),
      ...figure('oversold', oversold.toLocaleString()),
      ...figure('first click to last outcome', timeText(tookMs)),
      ...figure('half of the 202s within', timeText(percentile(this.#tookMs, 0.5))),
      ...figure('99 % of the 202s within', timeText(percentile(this.#tookMs, 0.99))),
    );
    byId('books').textContent =
      `Of ${books.units} units ${books.sold} are sold, ${books.held} held for open orders, ${books.sellable} still for sale` +
      `${addsUp ? ': that adds up' : ', which does not add up'}${books.sold === sold ? ', and the buyers were told the same.' : `; but the buyers were told of ${sold} sold.`}`;
    byId('tally').hidden = false;
    setPhase('over', books.sellable === 0 ? 'Sold out.' : 'Everybody has been served.');
  }

  /** It came to no proper end. */
  abandon() {
    setPhase('ready', 'The drop did not come to its end.');
  }
}

function setPhase(phase, words) {
  byId('stage').dataset.phase = phase;
  byId('phase').textContent = words;
}

function dotSize(buyers) {
  if (buyers <= 100) return 22;
  if (buyers <= 400) return 16;
  return buyers <= 1_200 ? 12 : 9;
}

function legendItem([stage, words]) {
  const swatch = make('i', { 'aria-hidden': 'true' });
  swatch.dataset.stage = stage;
  return make('li', {}, swatch, make('b', { id: `count-${stage}` }, '0'), ` ${words}`);
}

function titleOf(isExact, sold, units) {
  if (!isExact) return 'The figures do not agree';
  return sold === units
    ? `Sold exactly ${units.toLocaleString()} of ${units.toLocaleString()}`
    : `Sold ${sold} of ${units}`;
}

function wordsFor({ declined, tooLate, isSoldOut }) {
  const late = `${tooLate.toLocaleString()} came too late and were told so at once.`;
  if (declined === 0) return late;
  const cards =
    declined === 1
      ? '1 card was declined, and its unit'
      : `${declined.toLocaleString()} cards were declined, and their units`;
  return `${cards} went back on sale${isSoldOut ? ' and to somebody else' : ''}. ${late}`;
}

function figure(words, value) {
  return [make('div', {}, make('dt', {}, words), make('dd', {}, value))];
}

function percentile(values, share) {
  if (values.length === 0) return 0;
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}

/** Answered checkouts over time: bars that grow wider as the sale goes on, so that all of it stays in view. */
class Rates {
  #barMs = firstBarMs;
  #bars = [];

  count(atMs, stage) {
    let index = Math.floor(Math.max(0, atMs) / this.#barMs);
    while (index >= mostBars) {
      this.#widen();
      index = Math.floor(atMs / this.#barMs);
    }
    for (let missing = this.#bars.length; missing <= index; missing++) this.#bars.push({ accepted: 0, refused: 0 });
    this.#bars[index][stage === 'accepted' ? 'accepted' : 'refused']++;
  }

  draw() {
    const all = this.#bars.map(({ accepted, refused }) => accepted + refused);
    const highest = Math.max(1, ...all);
    const heights = (values) => values.map((value) => (value / highest) * chartSize.height);
    const chart = byId('chart');
    chart.replaceChildren(
      barsPath('refused', heights(all), this.#slots),
      barsPath('accepted', heights(this.#bars.map(({ accepted }) => accepted)), this.#slots),
    );
    if (all.length === 0) return;
    const peak = Math.round((highest * 1_000) / this.#barMs);
    byId('chart-peak').textContent = `peak ${peak.toLocaleString()} / s`;
    byId('chart-to').textContent = timeText(this.#slots * this.#barMs);
    chart.setAttribute('aria-label', `Checkouts answered per second, at most ${peak.toLocaleString()}`);
  }

  /** Some room to the right while there are only a few. */
  get #slots() {
    return Math.max(20, this.#bars.length);
  }

  #widen() {
    this.#barMs *= 2;
    const pairs = Array.from({ length: Math.ceil(this.#bars.length / 2) }, (_, index) =>
      this.#bars.slice(2 * index, 2 * index + 2),
    );
    this.#bars = pairs.map((pair) => ({
      accepted: pair.reduce((sum, { accepted }) => sum + accepted, 0),
      refused: pair.reduce((sum, { refused }) => sum + refused, 0),
    }));
  }
}

function barsPath(kind, heights, slots) {
  const step = chartSize.width / slots;
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('class', kind);
  path.setAttribute(
    'd',
    heights
      .map((height, index) => `M${index * step} ${chartSize.height}v${-height}h${step * 0.82}v${height}z`)
      .join(''),
  );
  return path;
}
