import { byId, call, make, moneyText, showError, timeText } from './page.js';

/** Of the simulated gateway. */
const payments = [
  ['tok_success', 'Paid at once', 'The bank says yes.'],
  ['tok_fail', 'Declined', 'Not enough money. The basket comes back.'],
  ['tok_slow', 'Slow bank', 'Each step takes 3 s.'],
  ['tok_capture_refused', 'Blocked card', 'Authorized, then refused.'],
  ['tok_error', 'Bank in trouble', 'Its first answer is a 500.'],
  ['tok_lost_answer', 'Answer lost', 'The bank is asked again: it takes a while.'],
];

const tickEveryMs = 100;

/** The checkout form and the timeline below it. `onEnd` is called when an order has ended. */
export function openCheckout({ cable, basket, onEnd }) {
  byId('payments').append(...payments.map(paymentChoice));
  const form = byId('checkout');
  const desk = new CheckoutDesk({ cable, basket, onEnd });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void desk.checkOut(new FormData(form));
  });
  return { allow: (isAllowed) => desk.allow(isAllowed) };
}

function paymentChoice([token, name, about], index) {
  const input = make('input', { type: 'radio', name: 'payment_token', value: token, checked: index === 0 });
  return make(
    'label',
    { className: 'payment' },
    input,
    make('span', {}, make('strong', {}, name), make('small', {}, about), make('code', {}, token)),
  );
}

class CheckoutDesk {
  #context;
  #isAllowed = false;
  #isUnderWay = false;
  /** A checkout of which nobody knows whether it was taken: sent again under its key, it is done once at most. */
  #unknown = null;

  constructor(context) {
    this.#context = context;
  }

  allow(isAllowed) {
    this.#isAllowed = isAllowed;
    this.#showButton();
  }

  async checkOut(form) {
    if (this.#isUnderWay || !this.#isAllowed) return;
    this.#setUnderWay(true);
    showError(byId('checkout-error'), null);
    const journey = new Journey();
    try {
      await this.#send(bodyFrom(form), journey);
      await journey.ended;
    } catch (error) {
      journey.fail(error);
      showError(byId('checkout-error'), error.message);
    }
    this.#setUnderWay(false);
    await this.#context.onEnd();
  }

  async #send(body, journey) {
    const { basket, cable } = this.#context;
    // Before it is sent: the outcome may be faster than the answer.
    cable.follow(basket.token, (message) => journey.hear('cable', message));
    const text = JSON.stringify(body);
    const key = this.#unknown?.text === text ? this.#unknown.key : randomKey();
    this.#unknown = { text, key };
    journey.begin();
    const response = await call('/api/v2/shopping_basket/checkout', {
      body,
      token: basket.token,
      headers: { 'Idempotency-Key': key },
    }).catch((error) => {
      if (!error.isUnknown) this.#unknown = null;
      throw error;
    });
    this.#unknown = null;
    journey.accept(response.headers.get('Location'), await response.json());
  }

  #setUnderWay(isUnderWay) {
    this.#isUnderWay = isUnderWay;
    this.#showButton();
  }

  #showButton() {
    const button = byId('pay');
    button.disabled = this.#isUnderWay || !this.#isAllowed;
    button.textContent = this.#isUnderWay ? 'Waiting for the outcome' : 'Check out';
  }
}

function bodyFrom(form) {
  const { payment_token, email, ...address } = Object.fromEntries(form);
  return { payment_token, email, address };
}

/** Not `crypto.randomUUID`, which only pages of a secure origin have. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

const channels = {
  cable: 'Outcome over the WebSocket',
  events: 'Outcome over server-sent events',
};

/** One checkout on its way, as the timeline shows it. */
class Journey {
  #beganAtMs = 0;
  #orderId = null;
  /** What came before the order had a name here. */
  #early = [];
  #steps = new Map();
  #events = null;
  #ticking = 0;
  #end;
  /** Resolves when the outcome is known. */
  ended = new Promise((resolve) => {
    this.#end = resolve;
  });

  begin() {
    this.#beganAtMs = performance.now();
    byId('outcome').hidden = false;
    byId('verdict').hidden = true;
    byId('outcome').scrollIntoView({ block: 'nearest' });
    byId('timeline').replaceChildren();
    this.#step('sent', 'Checkout sent', 'done').time.textContent = '0 ms';
    this.#step('accepted', 'Answer', 'waiting');
    this.#ticking = setInterval(() => this.#tick(), tickEveryMs);
  }

  accept(orderPath, { events_url: eventsUrl }) {
    this.#orderId = orderPath.split('/').pop();
    this.#finish('accepted', 'Accepted (202): the units are held for you');
    if (!this.#steps.has('cable')) this.#step('cable', channels.cable, 'waiting');
    if (eventsUrl) this.#listen(eventsUrl);
    for (const [channel, message] of this.#early.splice(0)) this.hear(channel, message);
  }

  /** An outcome has arrived, perhaps of another order of the basket. */
  hear(channel, message) {
    if (this.#orderId === null) this.#early.push([channel, message]);
    if (message.order_id !== this.#orderId || !this.#isWaiting(channel)) return;
    const isGood = message.status === 'completed';
    this.#finish(channel, `${channels[channel]}: ${message.status}`, isGood ? 'good' : 'bad');
    this.#conclude(message);
    if (![...this.#steps.values()].some(({ item }) => item.dataset.state === 'waiting')) this.#close();
  }

  fail(error) {
    for (const name of this.#steps.keys()) if (this.#isWaiting(name)) this.#finish(name, failureText(error), 'bad');
    this.#close();
  }

  #listen(url) {
    this.#step('events', channels.events, 'waiting');
    this.#events = new EventSource(url);
    const hear = ({ data }) => this.hear('events', JSON.parse(data));
    for (const type of ['message', 'completed', 'failed', 'refunded']) this.#events.addEventListener(type, hear);
    this.#events.addEventListener('error', ({ target }) => {
      if (target.readyState === EventSource.CLOSED && this.#isWaiting('events'))
        this.#finish('events', 'Server-sent events were refused', 'bad');
    });
  }

  #conclude({ status, order, error }) {
    const verdict = byId('verdict');
    verdict.hidden = false;
    verdict.dataset.state = status === 'completed' ? 'good' : 'bad';
    verdict.textContent =
      status === 'completed'
        ? `Yours: ${linesText(order.order_products)}. ${moneyText(order.total_price)} paid.`
        : `${error?.message ?? 'The order failed'}. Nothing was charged, and the basket is as it was.`;
    this.#end();
  }

  #step(name, title, state) {
    const time = make('time', {}, '');
    const label = make('span', {}, title);
    const item = make('li', {}, label, time);
    item.dataset.state = state;
    this.#steps.set(name, { item, label, time });
    byId('timeline').append(item);
    return { item, label, time };
  }

  #finish(name, title, state = 'done') {
    const { item, label, time } = this.#steps.get(name);
    item.dataset.state = state;
    label.textContent = title;
    time.textContent = timeText(performance.now() - this.#beganAtMs);
  }

  #isWaiting(name) {
    return this.#steps.get(name)?.item.dataset.state === 'waiting';
  }

  #tick() {
    const passed = timeText(performance.now() - this.#beganAtMs);
    for (const { item, time } of this.#steps.values()) if (item.dataset.state === 'waiting') time.textContent = passed;
  }

  #close() {
    clearInterval(this.#ticking);
    this.#events?.close();
    this.#end();
  }
}

function linesText(lines) {
  return lines.map(({ quantity, name }) => `${quantity} × ${name}`).join(', ');
}

function failureText({ isUnknown }) {
  return isUnknown ? 'No answer: check out again, nothing is done twice' : 'Refused: nothing was taken';
}
