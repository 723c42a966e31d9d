// The view of the quotas: what rings, the list, the panel of one. It fetches, then paints.

import { Detail } from "./detail.js";
import { byId } from "./dom.js";
import { Filters } from "./filters.js";
import { QuotaList } from "./list.js";
import { loading, mayNot, noneFits, nothingYet } from "./placeholders.js";
import { Ringing } from "./ringing.js";
import { Silences } from "./silences.js";
import { States } from "./states.js";

const WIDE = matchMedia("(min-width: 70rem)"); // the panel stands beside the list

export class Dashboard {
  loaded = false;
  providers = new Set();
  #api;
  #views;
  #poll;
  #told;
  #chosen = new URLSearchParams(location.search).get("state");
  #wait = document.createElement("div");

  /** `told(error)` hears of what was asked for by hand and did not work. */
  constructor(api, { views, poll, told }) {
    this.#api = api;
    this.#views = views;
    this.#poll = poll;
    this.#told = told;
    this.states = new States(api);
    const done = (error) => this.#done(error);
    this.silences = new Silences(api, done);
    const open = (id) => this.open(id);
    const state = (id) => this.states.all.get(id);
    this.ringing = new Ringing(byId("ringing"), api, this.silences, { open, changed: done, state });
    this.filters = new Filters(byId("filters"), () => this.#paint());
    this.list = new QuotaList(byId("list"), { open, now: () => api.now() });
    this.detail = new Detail(byId("detail"), api, {
      close: () => this.close(),
      controls: (state, alert) => this.ringing.controls(alert),
    });
    byId("list").append(this.#wait);
    this.#stand(loading());
    WIDE.addEventListener("change", () => this.#paint({ keep: true }));
  }

  /** Fetch what is new, then paint if there is any. */
  async refresh() {
    const [changed, rang] = await Promise.all(
      [this.states, this.ringing, this.silences].map((part) => part.refresh()),
    );
    if (this.states.more) this.#poll.now();
    const first = !this.loaded;
    this.loaded = true;
    if (changed || rang || first) {
      this.filters.offer(this.states.all.values());
      this.providers = new Set([...this.states.all.values()].map((state) => state.provider));
      this.#paint({ keep: !first });
    }
    this.ringing.show(this.#api.now());
    const loud = [...this.ringing.byState.values()].filter((alert) => !alert.acknowledgedAt).length;
    document.title = loud ? `(${loud}) Quotabell` : "Quotabell";
  }

  tick() {
    if (!this.loaded) return;
    this.list.tick();
    this.ringing.show(this.#api.now());
    this.#panel();
  }

  /** Open the panel of a quota and note it in the address. */
  open(id) {
    this.#chosen = id;
    this.#note(id);
    this.#views.go("quotas");
    this.#panel();
    if (!WIDE.matches) this.detail.title.focus();
  }

  close() {
    const id = this.#chosen;
    this.#chosen = null;
    this.#note(null);
    this.detail.hide();
    this.#panel();
    if (id) this.list.focus(id);
  }

  /** Go where a notification leads. */
  follow(search) {
    const id = new URLSearchParams(search).get("state");
    if (!id) return;
    this.open(id);
    this.#poll.now();
  }

  forbid(detail, change) {
    this.#stand(mayNot(detail, change));
  }

  /** Another token, another world. */
  forget() {
    this.loaded = false;
    this.states.forget();
    this.ringing.forget();
    this.list.show([], new Map(), new Map());
    this.detail.hide();
    this.#stand(loading());
  }

  #done(error) {
    if (error) this.#told(error);
    this.#poll.now();
  }

  #paint({ keep = false } = {}) {
    if (!this.loaded) return;
    const { all } = this.states;
    const alerts = this.ringing.byState;
    const found = this.filters.apply(all.values());
    this.list.show(found, alerts, all, { keep });
    const size = `${all.size}${this.states.complete && !this.states.more ? "" : "+"}`;
    this.filters.count.textContent = this.filters.active ? `${found.length} of ${size}` : size;
    byId("filters").hidden = !all.size;
    if (!all.size) this.#stand(nothingYet());
    else if (!found.length) this.#stand(noneFits(() => this.filters.clear()));
    else this.#stand(null);
    this.worst = found[0]?.id;
    this.#panel();
  }

  /** The chosen quota, or where there is room for it, the worst one. */
  #panel() {
    if (!this.loaded) return;
    if (this.#chosen && !this.states.more && !this.states.all.has(this.#chosen)) {
      this.#chosen = null;
      this.#told(new Error("That quota is no longer there, or not yours to see."));
    }
    const id = this.#chosen ?? (WIDE.matches ? this.worst : undefined);
    const state = this.states.all.get(id);
    const over = Boolean(state) && !WIDE.matches;
    document.body.toggleAttribute("data-panel", over);
    for (const part of [byId("ringing"), byId("filters"), byId("list")]) part.inert = over;
    if (!state) return this.detail.hide();
    this.detail.show(state, this.ringing.byState.get(id), this.#api.now());
    this.list.select(id);
  }

  #note(id) {
    const address = new URL(location.href);
    if (id) address.searchParams.set("state", id);
    else address.searchParams.delete("state");
    history.replaceState(null, "", address);
  }

  #stand(what) {
    this.list.head.hidden = Boolean(what);
    this.#wait.replaceChildren(...(what ? [what] : []));
  }
}
