/** The element with that id; the page has all that are asked for. */
export function byId(id) {
  return document.getElementById(id);
}

/** A new element; of `properties`, those with a hyphen and `role` are attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'role' || name.includes('-')) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Shows what went wrong in the place for it, or clears that. */
export function showError(place, message) {
  place.textContent = message ?? '';
  place.hidden = !message;
}

/** An amount as people write it. */
export function moneyText({ cents, currency }) {
  const format = new Intl.NumberFormat(undefined, { style: 'currency', currency });
  return format.format(cents / 10 ** format.resolvedOptions().maximumFractionDigits);
}

/** A duration as people read it. */
export function timeText(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`;
}

/** Thrown when a call has no good answer, with what to tell a person. */
export class CallFailed extends Error {
  constructor(message, { status = 0, isUnknown = false } = {}) {
    super(message);
    this.status = status;
    /** Whether it may have been done all the same. */
    this.isUnknown = isUnknown;
  }
}

/** Calls the API: POST if there is a body, else GET. Throws {@link CallFailed} for whatever is no success. */
export async function call(path, { body, token, headers = {}, signal } = {}) {
  const response = await fetch(path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      ...headers,
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(signal ? { signal } : {}),
  }).catch((error) => {
    if (error.name === 'AbortError') throw error;
    throw new CallFailed('The shop cannot be reached. Is it still running?', { isUnknown: true });
  });
  if (!response.ok) throw await failureOf(response);
  return response;
}

async function failureOf(response) {
  const { status } = response;
  const answer = await response.json().catch(() => null);
  const messages = answer?.error?.messages ?? [`The shop answered with status ${status}.`];
  const advice = status === 503 || status === 429 ? ' Please try again in a moment.' : '';
  return new CallFailed(`${messages.join('. ')}${advice}`, { status, isUnknown: status === 500 || status === 504 });
}
