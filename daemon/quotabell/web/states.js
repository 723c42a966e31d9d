// The quota states this tab knows, kept up to date by asking only for what changed.

const PATH = "/api/token-monitor/usage";
const PAGE = 5000;
const FIRST = 60; // of the worst, to be seen while the others come
const MOST = 20_000; // states; beyond it the list says that it is not complete
const FULL_EVERY = 60_000; // milliseconds: what has gone shows only in the whole list
const OVERLAP = 10_000; // milliseconds: transactions may end in another order than they began

export class States {
  all = new Map(); // id → state
  complete = true;
  more = false; // others are still to come
  #api;
  #fullAt = 0;
  #newest = "";

  constructor(api) {
    this.#api = api;
  }

  forget() {
    this.all = new Map();
    this.more = false;
    this.#fullAt = 0;
    this.#newest = "";
  }

  /** Fetch what changed; true if anything did. */
  async refresh() {
    if (!this.#fullAt && !this.more) return this.#worst();
    if (Date.now() - this.#fullAt > FULL_EVERY) return this.#everything();
    const updatedAfter = new Date(Date.parse(this.#newest || 0) - OVERLAP).toISOString();
    const { items, nextCursor } = await this.#api.get(PATH, { updatedAfter, limit: PAGE });
    if (nextCursor) return this.#everything();
    let changed = false;
    for (const state of items) changed = this.#take(state) || changed;
    return changed;
  }

  /** The worst quotas, of which there may be more. */
  async #worst() {
    const { items, nextCursor } = await this.#api.get(PATH, { limit: FIRST });
    for (const state of items) this.#seen(state);
    this.all = new Map(items.map((state) => [state.id, state]));
    this.more = Boolean(nextCursor);
    if (!this.more) this.#fullAt = Date.now();
    return true;
  }

  async #everything() {
    const found = new Map();
    let cursor;
    do {
      const { value, same } = await this.#api.read(PATH, { limit: PAGE, cursor });
      if (same && !value.nextCursor) {
        this.#fullAt = Date.now();
        return false;
      }
      for (const state of value.items) {
        this.#seen(state);
        found.set(state.id, state);
      }
      cursor = value.nextCursor;
    } while (cursor && found.size < MOST);
    this.complete = !cursor;
    this.all = found;
    this.more = false;
    this.#fullAt = Date.now();
    return true;
  }

  #take(state) {
    const before = this.all.get(state.id);
    if (before?.updatedAt === state.updatedAt) return false;
    this.#seen(state);
    this.all.set(state.id, state);
    return true;
  }

  #seen(state) {
    if (state.updatedAt > this.#newest) this.#newest = state.updatedAt;
  }
}
