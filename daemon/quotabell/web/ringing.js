// What rings now: to be acknowledged or silenced.

import { button, h, put, when } from "./dom.js";
import { duration, percent, severity } from "./format.js";

const NARROW = matchMedia("(max-width: 52rem)");

const PATH = "/api/token-monitor/alerts";
const WORDS = { threshold: "", forecast: "runs out early", stale: "stopped reporting", channel: "does not work" };
const nameOf = (alert) => alert.subject ?? `${alert.provider} / ${alert.model}`;
const SHOWN = 6; // on a narrow screen half as many

export class Ringing {
  byState = new Map(); // the alert of each state that fires, the gravest kind first
  #items = [];
  #api;
  #silences;
  #open;
  #changed;
  #state;
  #all = false;
  #drawn = "";

  /** `open(stateId)` shows a quota, `state(stateId)` gives it; `changed()` is called after an
   * acknowledgement. */
  constructor(place, api, silences, { open, changed, state }) {
    this.place = place;
    this.#api = api;
    this.#silences = silences;
    this.#open = open;
    this.#changed = changed;
    this.#state = state;
  }

  /** Fetch what fires; true if that changed. */
  async refresh() {
    const { value, same } = await this.#api.read(PATH, { status: "firing", limit: 500 });
    if (same) return false;
    this.#items = [...value.items];
    this.byState = new Map();
    for (const alert of this.#items.filter((item) => item.stateId)) {
      const known = this.byState.get(alert.stateId);
      if (!known || known.acknowledgedAt) this.byState.set(alert.stateId, alert);
    }
    return true;
  }

  forget() {
    this.#items = [];
    this.byState = new Map();
  }

  show(now) {
    this.#items.sort((a, b) => this.#percentage(b) - this.#percentage(a));
    const shares = this.#items.map((alert) => this.#percentage(alert));
    const key = JSON.stringify([this.#items, shares, this.#all, Math.floor(now / 30_000), this.#silences.key]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    const loud = this.#items.filter((alert) => !alert.acknowledgedAt).length;
    const focused = this.place.contains(document.activeElement) && document.activeElement.dataset.key;
    this.place.dataset.count = this.#items.length;
    put(
      this.place,
      h("h2", { id: "ringing-title" }, this.#items.length ? `Ringing: ${this.#items.length}` : "Nothing is ringing"),
      loud < this.#items.length && h("p", { class: "hint" }, `${this.#items.length - loud} acknowledged`),
      h("ul", {}, ...this.#visible().map((alert) => this.#item(alert, now))),
      this.#more(),
      this.#silences.list(now),
    );
    if (focused) this.place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  /** The buttons for an alert, here and in the panel of its quota. */
  controls(alert, words = "Acknowledge") {
    if (!alert) return [];
    const ack = alert.acknowledgedAt
      ? h("span", { class: "hint" }, `acked${alert.acknowledgedBy ? ` by ${alert.acknowledgedBy}` : ""}`)
      : button(words, (event) => this.#acknowledge(alert, event.target), {
          "data-key": `ack-${alert.id}`,
          "aria-label": `Acknowledge ${nameOf(alert)}`,
        });
    return [ack, ...this.#silences.controls(alert)];
  }

  #visible() {
    return this.#all ? this.#items : this.#items.slice(0, shown());
  }

  #more() {
    if (this.#items.length <= shown()) return null;
    const words = this.#all ? "Show fewer" : `Show all ${this.#items.length}`;
    return button(words, () => this.#toggle(), { class: "quiet", "data-key": "more" });
  }

  #toggle() {
    this.#all = !this.#all;
    this.show(this.#api.now());
  }

  /** As it is now; the alert itself tells of the last change of its level. What is about no quota is
   * as bad as one that is used up. */
  #percentage(alert) {
    if (alert.subject) return 100;
    return this.#state(alert.stateId)?.percentage ?? alert.percentage ?? 0;
  }

  #item(alert, now) {
    const percentage = this.#percentage(alert);
    const since = `for ${duration(now - Date.parse(alert.startedAt))}`;
    const about = [alert.userId, alert.quota === "reported" ? "" : alert.quota, words(alert, now)].filter(Boolean);
    return h(
      "li",
      {
        "data-alert": alert.id,
        "data-severity": Math.max(1, severity(percentage, [0])),
        "data-acknowledged": Boolean(alert.acknowledgedAt),
      },
      h("span", { class: "percentage" }, alert.subject ? "!" : percent(percentage)),
      h(
        "span",
        { class: "about" },
        alert.subject
          ? h("strong", {}, alert.subject)
          : button(nameOf(alert), () => this.#open(alert.stateId), { class: "link", "data-key": `open-${alert.id}` }),
        h("span", { class: "hint" }, ...about.flatMap((word) => [h("bdi", {}, word), " · "]), when(alert.startedAt, since)),
      ),
      h("span", { class: "actions" }, ...this.controls(alert, "Ack")),
    );
  }

  async #acknowledge(alert, button) {
    button.disabled = true;
    try {
      await this.#api.send("POST", `${PATH}/${alert.id}/ack`);
      this.#changed();
    } catch (error) {
      button.disabled = false;
      button.setAttribute("title", error.message);
      this.#changed(error);
    }
  }
}

function words(alert, now) {
  const left = alert.exhaustsAt ? Date.parse(alert.exhaustsAt) - now : 0;
  return left > 0 ? `runs out in ${duration(left)}` : WORDS[alert.kind];
}

const shown = () => (NARROW.matches ? SHOWN / 2 : SHOWN);
