// Silences mute deliveries for a while, never the record. A daemon without them answers 404.

import { button, h } from "./dom.js";
import { until } from "./format.js";

const PATH = "/api/token-monitor/silences";
const HOUR = 3_600_000;
const SPANS = [["1 h", HOUR], ["8 h", 8 * HOUR], ["1 d", 24 * HOUR], ["1 week", 168 * HOUR]];
const KINDS = { stale: "all stale sources", channel: "all channels" };

export class Silences {
  key = ""; // changes with what is silenced
  #api;
  #items = [];
  #offered = false;
  #changed;
  #refreshedAt = -Infinity;

  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
  }

  /** Fetch them, every half a minute or when `now` is true. */
  async refresh(now = false) {
    if (!now && performance.now() - this.#refreshedAt < 30_000) return;
    this.#refreshedAt = performance.now();
    try {
      this.#items = (await this.#api.get(PATH)).items;
      this.#offered = true;
    } catch (error) {
      if (![403, 404].includes(error.status)) throw error;
      this.#offered = false;
    }
    this.key = JSON.stringify([this.#offered, this.#items]);
  }

  /** How to silence what an alert is about. */
  controls(alert) {
    if (!this.#offered) return [];
    const silence = async (event) => {
      const length = Number(event.target.value);
      event.target.value = "";
      if (length) await this.#add(alert, length);
    };
    return [
      h(
        "select",
        {
          "aria-label": `Silence ${alert.subject ? KINDS[alert.kind] : `${alert.provider} / ${alert.model}`}`,
          "data-key": `silence-${alert.id}`,
          onchange: silence,
        },
        h("option", { value: "" }, alert.subject ? `Silence ${KINDS[alert.kind]}` : "Silence"),
        ...SPANS.map(([name, length]) => h("option", { value: length }, `for ${name}`)),
      ),
    ];
  }

  /** The silences in force, to be ended. */
  list(now) {
    const inForce = this.#items.filter((s) => Date.parse(s.endsAt) > now);
    if (!inForce.length) return null;
    return h(
      "ul",
      { class: "silences", "aria-label": "Silences" },
      ...inForce.map((s) =>
        h(
          "li",
          {},
          h("span", {}, `Silenced: ${words(s.matchers)}, for another ${until(s.endsAt, now)} (${s.reason})`),
          button("End", () => this.#end(s), { class: "quiet", "data-key": `end-${s.id}` }),
        ),
      ),
    );
  }

  async #add(alert, length) {
    const { provider, model, userId, quota, kind, subject } = alert;
    // "": nobody in particular. What is about no quota is silenced by kind: it has nothing else.
    const names = subject ? { kind } : { provider, model, quota, userId: userId ?? "" };
    const matchers = Object.fromEntries(Object.entries(names).map(([name, value]) => [name, literally(value)]));
    const endsAt = new Date(this.#api.now() + length).toISOString();
    await this.#do("POST", PATH, { matchers, endsAt, reason: "from the page" });
  }

  async #end(silence) {
    await this.#do("DELETE", `${PATH}/${silence.id}`);
  }

  async #do(method, path, body) {
    try {
      await this.#api.send(method, path, body);
      await this.refresh(true);
      this.#changed();
    } catch (error) {
      this.#changed(error);
    }
  }
}

/** Matchers are shell patterns; a name is to match itself only. */
const literally = (name) => name.replace(/[*?[]/g, "[$&]");
const words = (matchers) => Object.values(matchers ?? {}).filter(Boolean).join(" / ") || "everything";
