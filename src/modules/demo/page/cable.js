const subprotocol = 'actioncable-v1-json';
/** The server sends a sign of life every 3 s. */
const deadAfterMs = 8_000;
const longestPauseMs = 5_000;

/**
 * A connection to `/cable` that comes back by itself. It speaks as much of Action Cable as this page needs: subscribe,
 * be confirmed, receive. `onState` is told `connecting`, `open` or `closed`.
 */
export class Cable {
  #onState;
  #listeners = new Map();
  #socket = null;
  #failures = 0;
  #watch = 0;

  constructor(onState) {
    this.#onState = onState;
  }

  /** Calls `listener` with each outcome of the basket, from now on and over every reconnect. */
  follow(basketToken, listener) {
    const identifier = JSON.stringify({ channel: 'CheckoutNotificationsChannel', shopping_basket_id: basketToken });
    const isNew = !this.#listeners.has(identifier);
    this.#listeners.set(identifier, listener);
    if (isNew && this.#socket?.readyState === WebSocket.OPEN) this.#subscribe(identifier);
  }

  /** Call once. */
  connect() {
    this.#onState('connecting');
    const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/cable`, [subprotocol]);
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener('close', () => this.#comeBack());
  }

  #receive(frame) {
    this.#expectLife();
    if (frame.type === 'welcome') {
      this.#failures = 0;
      this.#onState('open');
      for (const identifier of this.#listeners.keys()) this.#subscribe(identifier);
    } else if (frame.type === 'disconnect') this.#socket.close();
    else if (frame.type === undefined) this.#listeners.get(frame.identifier)?.(frame.message);
  }

  #subscribe(identifier) {
    this.#socket.send(JSON.stringify({ command: 'subscribe', identifier }));
  }

  #expectLife() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#socket.close(), deadAfterMs);
  }

  #comeBack() {
    clearTimeout(this.#watch);
    this.#onState('closed');
    this.#failures++;
    setTimeout(() => this.connect(), Math.min(200 * 2 ** this.#failures, longestPauseMs));
  }
}
