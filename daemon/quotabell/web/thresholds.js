// When to ring: thresholds that people set, to be added, changed, paused and removed.

import { button, h, setText } from "./dom.js";

const RULE =
  "Ring when a quota reaches a percentage of its limit. The most specific counts: of a provider and " +
  "user, of a provider, of a user, of everybody; where none is set, those of the configuration.";
const HEADINGS = ["Provider", "User", "Percentage", "Active", h("span", { class: "unseen" }, "Actions")];
const SHARE = { type: "number", min: "0.1", max: "1000", step: "any" };
const TEXT = { autocomplete: "off", maxlength: "200" };
const PATH = "/api/token-monitor/thresholds";

export class Thresholds {
  #api;
  #items = [];
  #drawn = "";

  /** `changed()` is called when quotas must be looked at anew. */
  constructor(place, api, changed) {
    this.#api = api;
    this.changed = changed;
    this.message = h("p", { class: "hint", role: "status" });
    this.providers = h("datalist", { id: "known-providers" });
    this.rows = h("tbody");
    place.replaceChildren(
      h("div", { class: "bar-title" }, h("h2", { id: "thresholds-title" }, "Thresholds")),
      h("p", { class: "hint" }, RULE),
      this.#form(),
      this.message,
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          {},
          h("thead", {}, h("tr", {}, ...HEADINGS.map((words) => h("th", { scope: "col" }, words)))),
          this.rows,
        ),
      ),
      this.providers,
    );
  }

  /** Suggest the providers there are. */
  offer(providers) {
    const names = [...providers].sort();
    if (names.join() === this.offered) return;
    this.offered = names.join();
    this.providers.replaceChildren(...names.map((value) => h("option", { value })));
  }

  async refresh() {
    const { value } = await this.#api.read(PATH, { limit: 500 });
    this.#items = value.items;
    this.#draw();
  }

  #form() {
    this.provider = h("input", { ...TEXT, name: "provider", list: "known-providers", placeholder: "any" });
    this.user = h("input", { ...TEXT, name: "userId", placeholder: "everybody" });
    this.percentage = h("input", { ...SHARE, name: "thresholdPercentage", required: true, placeholder: "80" });
    return h(
      "form",
      { class: "adding", onsubmit: (event) => this.#add(event) },
      h("label", {}, "Provider", this.provider),
      h("label", {}, "User", this.user),
      h("label", {}, "Percentage", this.percentage),
      h("button", { type: "submit", class: "primary" }, "Add threshold"),
    );
  }

  async #add(event) {
    event.preventDefault();
    const body = { provider: this.provider.value.trim() || "*", thresholdPercentage: Number(this.percentage.value) };
    if (this.user.value.trim()) body.userId = this.user.value.trim();
    const added = await this.#do("POST", PATH, body, "Added.");
    if (added) this.percentage.value = "";
  }

  async #do(method, path, body, words) {
    setText(this.message, "");
    try {
      await this.#api.send(method, path, body);
      setText(this.message, words);
      await this.refresh();
      this.changed();
      return true;
    } catch (error) {
      setText(this.message, error.message);
      this.#drawn = "";
      this.#draw();
      return false;
    }
  }

  #draw() {
    const key = JSON.stringify(this.#items);
    const editing = this.rows.contains(document.activeElement) && document.activeElement.type === "number";
    if (key === this.#drawn || editing) return;
    this.#drawn = key;
    const focused = this.rows.contains(document.activeElement) && document.activeElement.dataset.key;
    this.rows.replaceChildren(...this.#items.map((item) => this.#row(item)));
    if (focused) this.rows.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    if (!this.#items.length) {
      this.rows.append(h("tr", {}, h("td", { colspan: "5", class: "empty" }, "None is set; those of the configuration count.")));
    }
  }

  #row(item) {
    const path = `${PATH}/${item.id}`;
    const whose = `${item.provider === "*" ? "any provider" : item.provider}, ${item.userId ?? "everybody"}`;
    const share = item.thresholdPercentage;
    const percentage = h("input", { ...SHARE, value: share, "aria-label": `Percentage of ${whose}` });
    percentage.addEventListener("change", () => {
      percentage.blur();
      this.#do("PATCH", path, { thresholdPercentage: Number(percentage.value) }, "Changed.");
    });
    const active = h("input", {
      type: "checkbox",
      checked: item.isActive,
      "data-key": `active-${item.id}`,
      "aria-label": `Active, ${whose}`,
    });
    active.addEventListener("change", () => {
      const words = active.checked ? "It rings again." : "Paused.";
      this.#do("PATCH", path, { isActive: active.checked }, words);
    });
    const remove = button("Remove", () => this.#do("DELETE", path, undefined, "Removed."), {
      class: "quiet",
      "aria-label": `Remove ${share} % of ${whose}`,
    });
    return h(
      "tr",
      { "data-threshold": item.id },
      h("td", { "data-label": "Provider" }, item.provider === "*" ? "any" : item.provider),
      h("td", { "data-label": "User" }, item.userId ?? "everybody"),
      h("td", { "data-label": "Percentage", class: "number" }, h("span", {}, percentage, " %")),
      h("td", { "data-label": "Active" }, active),
      h("td", {}, remove),
    );
  }
}
