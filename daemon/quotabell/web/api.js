// Calls of the daemon: the token, revalidation, and errors that say what to do.

const TIMEOUT = 15_000; // milliseconds
const KEY = "quotabell.token";

/** The daemon answered, but not with what was asked for. */
export class Refused extends Error {
  constructor(status, detail, errors = []) {
    super([detail, ...errors.map((e) => (e.field ? `${e.field} ${e.message}` : e.message))].join(": "));
    this.status = status;
  }
}

/** No answer came. */
export class Unreachable extends Error {}

/** One daemon, one tab. The token lives as long as the tab does. */
export class Api {
  #known = new Map(); // path → {etag, value} of lists that are asked for again and again
  #skew = 0;

  get token() {
    return sessionStorage.getItem(KEY) ?? "";
  }

  set token(value) {
    this.#known.clear();
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  }

  /** Milliseconds by the daemon's clock, where this device's is plainly wrong. */
  now() {
    return Date.now() + this.#skew;
  }

  /** A list or document; `same` is true if it has not changed since it was asked for last. */
  async read(path, query = {}) {
    const address = path + search(query);
    const known = this.#known.get(address);
    const answer = await this.#ask("GET", address, undefined, known?.etag);
    if (answer.status === 304 && known) return { value: known.value, same: true };
    const value = await answer.json();
    const etag = answer.headers.get("ETag");
    if (etag && !query.updatedAfter && !query.cursor) this.#known.set(address, { etag, value });
    return { value, same: false };
  }

  async get(path, query) {
    return (await this.read(path, query)).value;
  }

  /** POST, PATCH or DELETE; the answer's document, or null if it has none. */
  async send(method, path, body) {
    const answer = await this.#ask(method, path, body);
    return answer.status === 204 ? null : answer.json();
  }

  async #ask(method, address, body, etag) {
    const headers = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (etag) headers["If-None-Match"] = etag;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(address, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        signal: AbortSignal.timeout(TIMEOUT),
      });
    } catch {
      throw new Unreachable("The daemon does not answer.");
    }
    this.#compareClocks(answer.headers.get("Date"));
    if (answer.ok || answer.status === 304) return answer;
    throw await refusal(answer);
  }

  #compareClocks(date) {
    const skew = date ? Date.parse(date) - Date.now() : 0;
    this.#skew = Math.abs(skew) > 5000 ? skew : 0; // the header has whole seconds
  }
}

function search(query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function refusal(answer) {
  try {
    const { detail, errors } = await answer.json();
    return new Refused(answer.status, detail, errors);
  } catch {
    return new Refused(answer.status, `The daemon answered ${answer.status}.`);
  }
}
