// The panel of one quota: its figures, its last hours, and what can be done about it.

import { Chart } from "./chart.js";
import { h, setText } from "./dom.js";
import { ago, burn, clock, percent, severity, unit, until, used } from "./format.js";
import { exhaustion, left } from "./row.js";

const HISTORY = "/api/token-monitor/usage/history";
const HOUR = 3_600_000;
const RANGES = { "1 h": HOUR, "6 h": 6 * HOUR, "24 h": 24 * HOUR, "7 d": 168 * HOUR };
const REFRESH = 20_000; // milliseconds; a sample is taken once a minute

export class Detail {
  #api;
  #controls;
  #state;
  #range = "6 h";
  #fetchedAt = 0;
  #asked = 0;
  #points = [];

  /** `controls(state, alert)` gives the buttons for its alert; `close()` is called to close it. */
  constructor(place, api, { close, controls }) {
    this.place = place;
    this.#api = api;
    this.#controls = controls;
    this.chart = new Chart();
    this.title = h("h2", { tabindex: "-1" });
    this.whose = h("p", { class: "whose" });
    this.big = h("p", { class: "big" });
    this.facts = h("dl", { class: "facts" });
    this.message = h("p", { class: "hint" });
    this.actions = h("div", { class: "actions" });
    this.ranges = h(
      "div",
      { class: "ranges", role: "group", "aria-label": "Time shown" },
      ...Object.keys(RANGES).map((name) =>
        h("button", { type: "button", "aria-pressed": name === this.#range, onclick: () => this.#choose(name) }, name),
      ),
    );
    const shut = h("button", { class: "quiet close", type: "button", "aria-label": "Close", onclick: close }, "✕");
    place.replaceChildren(
      h("div", { class: "title" }, h("div", {}, this.title, this.whose), shut),
      this.big,
      this.ranges,
      this.chart.element,
      this.message,
      this.facts,
      this.actions,
    );
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented) close();
    });
  }

  get id() {
    return this.#state?.id;
  }

  show(state, alert, now) {
    const other = state.id !== this.id;
    this.#state = state;
    this.#visible(true);
    this.place.dataset.severity = severity(state.percentage, state.thresholds);
    this.place.dataset.id = state.id;
    setText(this.title, `${state.provider} / ${state.model}`);
    setText(this.whose, [state.userId ?? "everyone", state.quota].join(" · "));
    this.big.replaceChildren(h("strong", {}, percent(state.percentage)), ` ${used(state)} ${unit(state.unit)}, ${left(state)}`);
    this.#list(state, now);
    this.actions.replaceChildren(...this.#controls(state, alert));
    if (other) this.#points = [];
    if (other || now - this.#fetchedAt > REFRESH) this.#fetch(now);
    else this.#plot(now);
  }

  #visible(yes) {
    this.place.hidden = !yes;
    this.place.parentElement.toggleAttribute("data-panel", yes);
  }

  hide() {
    this.#visible(false);
    this.#state = undefined;
  }

  #list(state, now) {
    const out = exhaustion(state, now);
    const resets = until(state.periodEnd, now) || "a moment";
    const facts = [
      ["Burn", burn(state.burnTokensPerSecond)],
      ["Runs out", out === "–" || out === "used up" ? out : `in ${out}, ${date(state.exhaustsAt)}`],
      ["Resets", state.periodEnd ? `in ${resets}, ${date(state.periodEnd)}` : "–"],
      ["Thresholds", (state.thresholds ?? []).map((t) => `${Number(t.toFixed(2))}\u00a0%`).join(", ") || "none"],
      ["Reported", ago(state.reportedAt ?? state.updatedAt, now)],
    ];
    this.facts.replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  #choose(name) {
    this.#range = name;
    for (const button of this.ranges.children) button.setAttribute("aria-pressed", button.textContent === name);
    this.#fetch(this.#api.now());
  }

  async #fetch(now) {
    const asked = ++this.#asked;
    const state = this.#state;
    this.#fetchedAt = now;
    const query = {
      stateId: state.id,
      from: new Date(this.#from(now)).toISOString(),
      to: new Date(now).toISOString(),
    };
    if (!this.#points.length) this.#plot(now);
    try {
      const { items } = await this.#api.get(HISTORY, query);
      if (asked !== this.#asked) return;
      this.#points = items;
      setText(this.message, items.length ? "" : "The line grows as usage is reported.");
      this.#plot(now);
    } catch (error) {
      if (asked === this.#asked) setText(this.message, `The history could not be loaded: ${error.message}`);
    }
  }

  #from(now) {
    const start = Date.parse(this.#state.periodStart ?? 0) || 0;
    return Math.max(start, now - RANGES[this.#range]);
  }

  #plot(now) {
    const from = Math.min(this.#from(now), now - 60_000);
    const points = this.#points.filter((p) => Date.parse(p.time) >= from && Date.parse(p.time) <= now);
    this.chart.show(this.#state, points, from, now);
  }
}

const date = (iso) => clock(Date.parse(iso), true);
