// Silences mute deliveries for a while, never the record. A daemon without them answers 404.

import { button, h } from "./dom.js";
import { until } from "./format.js";

const PATH = "/api/token-monitor/silences";
const HOUR = 3_600_000;
const SPANS = [["1 h", HOUR], ["8 h", 8 * HOUR], ["1 d", 24 * HOUR], ["1 week", 168 * HOUR]];
const KINDS = { stale: "all stale sources", channel: "all channels" };
const NO_REASON = "from the page";
const whatOf = (alert) => (alert.subject ? KINDS[alert.kind] : `${alert.provider} / ${alert.model}`);

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
    const silence = (event) => {
      const chosen = SPANS.find(([, length]) => String(length) === event.target.value);
      event.target.value = "";
      if (chosen) this.#ask(alert, ...chosen);
    };
    return [
      h(
        "select",
        {
          "aria-label": `Silence ${whatOf(alert)}`,
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
          h("span", {}, `Silenced: ${words(s.matchers)}, for another ${until(s.endsAt, now)}: ${s.reason} (${s.author})`),
          button("End", () => this.#end(s), { class: "quiet", "data-key": `end-${s.id}` }),
        ),
      ),
    );
  }

  /** Ask why, in a dialog: the list is drawn anew now and then, and with it what was typed there. */
  #ask(alert, span, length) {
    const reason = h("input", { name: "reason", maxlength: "1000", autocomplete: "off", placeholder: NO_REASON });
    const submit = (event) => {
      event.preventDefault();
      dialog.close("silence");
    };
    const ended = () => {
      dialog.remove();
      if (dialog.returnValue) this.#add(alert, length, reason.value.trim() || NO_REASON);
    };
    const dialog = h(
      "dialog",
      { class: "asking", "aria-labelledby": "asking-title", onclose: ended },
      h(
        "form",
        { onsubmit: submit },
        h("h2", { id: "asking-title" }, `Silence ${whatOf(alert)} for ${span}`),
        h("label", {}, "Reason", reason),
        h(
          "p",
          { class: "actions" },
          h("button", { type: "submit", class: "primary" }, "Silence"),
          button("Cancel", () => dialog.close("")),
        ),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  }

  async #add(alert, length, reason) {
    const { provider, model, userId, quota, kind, subject } = alert;
    // "": nobody in particular. What is about no quota is silenced by kind: it has nothing else.
    const names = subject ? { kind } : { provider, model, quota, userId: userId ?? "" };
    const matchers = Object.fromEntries(Object.entries(names).map(([name, value]) => [name, literally(value)]));
    const endsAt = new Date(this.#api.now() + length).toISOString();
    await this.#do("POST", PATH, { matchers, endsAt, reason });
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
