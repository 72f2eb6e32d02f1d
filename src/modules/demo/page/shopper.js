import { openCheckout } from './checkout.js';
import { byId, call, make, moneyText, showError } from './page.js';

const storageKey = 'scalecommerce-demo-basket';
const mostOfOne = 10_000;

/** The shopper's part of the page: the catalogue, the basket, and from there the checkout. */
export function openShop(cable) {
  const basket = new Basket((isEmpty) => checkout.allow(!isEmpty));
  const catalogue = new Catalogue((product) => basket.add(product.id));
  const checkout = openCheckout({
    cable,
    basket,
    onEnd: () => Promise.all([basket.load(), catalogue.load(catalogue.page)]),
  });
  void basket.load();
  void catalogue.load(1);
}

class Catalogue {
  #add;
  #records = [];
  #pages = 1;
  page = 1;

  constructor(add) {
    this.#add = add;
    byId('previous').addEventListener('click', () => this.load(this.page - 1));
    byId('next').addEventListener('click', () => this.load(this.page + 1));
    byId('page').addEventListener('change', ({ target }) => this.load(Number.parseInt(target.value, 10) || 1));
    byId('query').addEventListener('input', () => this.#show());
  }

  async load(wanted) {
    const page = Math.min(Math.max(wanted, 1), Math.max(this.#pages, 1));
    try {
      const answer = await (await call(`/api/v1/products?page=${page}`)).json();
      Object.assign(this, { page: answer.page });
      this.#pages = answer.pages;
      this.#records = answer.records;
      showError(byId('catalogue-error'), null);
      this.#show();
    } catch (error) {
      showError(byId('catalogue-error'), error.message);
    }
  }

  #show() {
    const query = byId('query').value.trim().toLowerCase();
    const found = this.#records.filter(({ name, description }) =>
      `${name} ${description}`.toLowerCase().includes(query),
    );
    byId('products').replaceChildren(...found.map((product) => this.#card(product)));
    byId('found').textContent = foundText(query, found.length, this.#records.length);
    byId('page').value = String(this.page);
    byId('pages').textContent = `of ${this.#pages.toLocaleString()}`;
    byId('previous').disabled = this.page <= 1;
    byId('next').disabled = this.page >= this.#pages;
  }

  #card(product) {
    const { id, name, description, price } = product;
    const isThere = product.stock_status === 'AVAILABLE';
    const button = make('button', { type: 'button', disabled: !isThere }, isThere ? 'Add' : 'Sold out');
    button.setAttribute('aria-label', isThere ? `Add ${name} to the basket` : `${name} is sold out`);
    button.addEventListener('click', () => this.#add(product));
    return make(
      'li',
      { className: 'product' },
      pictureOf(id, name),
      make('h3', {}, name),
      make('p', { className: 'about' }, description),
      make('p', { className: 'buy' }, make('strong', {}, moneyText(price)), button),
    );
  }
}

function foundText(query, found, all) {
  if (all === 0) return 'The catalogue is empty. `npx scalecommerce seed` fills it.';
  return query === '' ? '' : `${found} of the ${all} products on this page`;
}

/** In place of a photograph: two colours and a shape that are always the same for a product. */
function pictureOf(id, name) {
  const seed = Number.parseInt(id.replaceAll('-', '').slice(-8), 16);
  const picture = make('div', { className: 'picture', 'aria-hidden': 'true' }, make('span', {}, [...name][0] ?? ''));
  picture.dataset.shape = String(seed % 4);
  picture.style.setProperty('--hue', String(seed % 360));
  picture.style.setProperty('--turn', `${(seed >> 9) % 360}deg`);
  return picture;
}

class Basket {
  token = keptToken();
  #quantities = new Map();
  #lastWrite = Promise.resolve();
  #onChange;

  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** Reads the basket again as the shop has it. */
  async load() {
    try {
      this.#show(await (await call('/api/v2/shopping_basket', { token: this.token })).json());
    } catch (error) {
      showError(byId('basket-error'), error.message);
    }
  }

  add(productId) {
    return this.#inTurn(() => this.#set(productId, (this.#quantities.get(productId) ?? 0) + 1));
  }

  /** Writes leave one after the other: the first one makes the basket that the others go into. */
  #inTurn(write) {
    this.#lastWrite = this.#lastWrite.then(write);
    return this.#lastWrite;
  }

  async #set(productId, quantity) {
    try {
      const body = { product: { product_id: productId, quantity } };
      const response = await call('/api/v2/shopping_basket/products', { body, token: this.token });
      this.#keepToken(response.headers.get('Shopping-Basket-ID'));
      showError(byId('basket-error'), null);
      this.#show(await response.json());
    } catch (error) {
      showError(byId('basket-error'), error.message);
      await this.load();
    }
  }

  #keepToken(token) {
    if (!token) return;
    this.token = token;
    try {
      localStorage.setItem(storageKey, token);
    } catch {
      // Without storage the basket lasts as long as the page.
    }
  }

  #show({ products, total_price: total }) {
    this.#quantities = new Map(products.map(({ id, quantity }) => [id, quantity]));
    const focused = document.activeElement?.closest('#lines li')?.dataset.product;
    const lines = products.map((line) => this.#line(line));
    byId('lines').replaceChildren(...lines);
    if (focused)
      (
        lines.find(({ dataset }) => dataset.product === focused)?.querySelector('input') ?? byId('basket-title')
      ).focus();
    const units = products.reduce((sum, { quantity }) => sum + quantity, 0);
    byId('basket-count').textContent = units > 0 ? `${units} ${units === 1 ? 'unit' : 'units'}` : '';
    byId('basket-empty').hidden = units > 0;
    byId('to-basket').hidden = units === 0;
    byId('to-basket').textContent = `Basket (${units})`;
    byId('basket-total').hidden = units === 0;
    byId('total').textContent = moneyText(total);
    this.#onChange(units === 0);
  }

  #line({ id, name, quantity, stock_status: status, total_price: price }) {
    const field = make('input', { type: 'number', min: '0', max: String(mostOfOne), value: String(quantity) });
    field.setAttribute('aria-label', `Quantity of ${name}`);
    field.addEventListener('change', () => this.#inTurn(() => this.#set(id, Number(field.value))));
    const remove = make('button', { type: 'button', className: 'quiet', 'aria-label': `Remove ${name}` }, '×');
    remove.addEventListener('click', () => this.#inTurn(() => this.#set(id, 0)));
    const short = status === 'AVAILABLE' ? [] : [make('em', {}, 'Not enough in stock: what is short stays here.')];
    return make(
      'li',
      { 'data-product': id },
      make('span', { className: 'name' }, name, ...short),
      field,
      make('span', { className: 'price' }, moneyText(price)),
      remove,
    );
  }
}

function keptToken() {
  try {
    return localStorage.getItem(storageKey);
  } catch {
    return null;
  }
}
