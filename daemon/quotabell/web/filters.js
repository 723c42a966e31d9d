// Which quotas to show, and their order. What is chosen stands in the address, so it can be shared.

import { h, setAttribute } from "./dom.js";

const FIELDS = ["provider", "model", "user"];
const NOBODY = "(nobody)";

export class Filters {
  #controls = {};
  #known = {};
  #changed;
  #noting = 0;

  constructor(form, changed) {
    this.#changed = changed;
    const asked = new URLSearchParams(location.search);
    this.#controls.find = h("input", {
      type: "search",
      name: "find",
      placeholder: "Find a quota",
      autocomplete: "off",
      spellcheck: "false",
      "aria-label": "Find quotas by any of their names",
    });
    this.#controls.find.value = asked.get("find") ?? "";
    for (const name of FIELDS) {
      this.#controls[name] = h("select", { name, "aria-label": title(name) });
      this.#options(name, asked.get(name) ? [asked.get(name)] : []);
      this.#controls[name].value = asked.get(name) ?? "";
    }
    this.count = h("output", { class: "count", "aria-live": "polite" });
    form.replaceChildren(...Object.values(this.#controls), this.count);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => this.#remember());
  }

  /** Offer every provider, model and user there is. */
  offer(states) {
    const values = Object.fromEntries(FIELDS.map((name) => [name, new Set()]));
    for (const state of states) for (const name of FIELDS) values[name].add(valueOf(state, name));
    for (const name of FIELDS) this.#options(name, [...values[name]].sort());
  }

  /** The states that are asked for, worst first. */
  apply(states) {
    const { find, ...exact } = this.chosen;
    const words = find.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (const state of states) if (fits(state, exact, words)) found.push(state);
    return found.sort(worse);
  }

  get chosen() {
    return Object.fromEntries(Object.entries(this.#controls).map(([name, c]) => [name, c.value.trim()]));
  }

  get active() {
    return Object.values(this.chosen).some(Boolean);
  }

  clear() {
    for (const control of Object.values(this.#controls)) control.value = "";
    this.#remember();
  }

  #options(name, values) {
    const control = this.#controls[name];
    const chosen = control.value;
    if (chosen && !values.includes(chosen)) values.push(chosen);
    const key = values.join("\n");
    if (this.#known[name] === key) return;
    this.#known[name] = key;
    control.replaceChildren(
      h("option", { value: "" }, title(name)),
      ...values.map((value) => h("option", { value }, value)),
    );
    control.value = chosen;
  }

  #remember() {
    for (const name of FIELDS) setAttribute(this.#controls[name], "data-chosen", this.#controls[name].value ? "" : null);
    clearTimeout(this.#noting); // the browser takes its time over an address; a typist does not wait
    this.#noting = setTimeout(() => this.#note(), 250);
    this.#changed();
  }

  #note() {
    const address = new URL(location.href);
    for (const [name, value] of Object.entries(this.chosen)) {
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    history.replaceState(null, "", address);
  }
}

const valueOf = (state, name) => (name === "user" ? (state.userId ?? NOBODY) : state[name]);
const title = (name) => `All ${name}s`;

function fits(state, exact, words) {
  for (const name of FIELDS) {
    if (exact[name] && valueOf(state, name) !== exact[name]) return false;
  }
  if (!words.length) return true;
  const text = `${state.provider} / ${state.model} ${state.userId ?? ""} ${state.quota}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** The fullest first; without a limit last, by use. */
function worse(a, b) {
  return (
    (b.percentage ?? -1) - (a.percentage ?? -1) ||
    b.tokensUsed - a.tokensUsed ||
    (a.id < b.id ? -1 : 1)
  );
}
