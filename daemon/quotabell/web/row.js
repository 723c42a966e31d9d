// One quota as a line of the list: made once, then only what changed is written.

import { h, setAttribute, setText } from "./dom.js";
import { amount, burn, percent, severity, unit, until, used, whole } from "./format.js";

/** The stable hooks for tests and scripts: data-quota, -provider, -model, -user, -percentage. */
export class Row {
  constructor(state) {
    this.fill = h("span", { class: "fill" });
    this.ticks = h("span", { class: "ticks" });
    this.cells = Object.fromEntries(
      ["percentage", "amount", "burn", "out", "reset"].map((name) => [name, h("span", { class: name })]),
    );
    this.open = h("button", { class: "name", type: "button", tabindex: "-1" });
    this.element = h(
      "li",
      { class: "quota" },
      this.open,
      h("span", { class: "bar", "aria-hidden": "true" }, this.fill, this.ticks),
      ...Object.values(this.cells),
    );
    this.element.dataset.id = state.id;
  }

  /** `alert`: the firing alert of this state, if any. */
  show(state, alert, now) {
    const changed = state !== this.state || alert !== this.alert;
    if (changed) {
      this.state = state;
      this.alert = alert;
      this.#identity(state);
      this.#figures(state, alert);
    }
    if (!changed && now - this.timedAt < 5000) return;
    this.timedAt = now;
    this.#times(state, now);
  }

  #identity(state) {
    const { dataset } = this.element;
    if (dataset.quota === state.quota && this.open.firstChild) return;
    Object.assign(dataset, {
      quota: state.quota,
      provider: state.provider,
      model: state.model,
      user: state.userId ?? "",
    });
    const of = [state.userId, state.quota === "reported" ? "" : state.quota].filter(Boolean);
    this.open.replaceChildren(
      h("span", { class: "what" }, `${state.provider} / ${state.model}`),
      h("span", { class: "whose" }, of.join(" · ") || "everyone"),
    );
  }

  #figures(state, alert) {
    const level = severity(state.percentage, state.thresholds);
    setAttribute(this.element, "data-percentage", state.percentage ?? "");
    setAttribute(this.element, "data-severity", level);
    setAttribute(this.element, "data-ringing", alert ? (alert.acknowledgedAt ? "acknowledged" : "yes") : null);
    // By script, because the policy of the page allows no style attributes.
    this.fill.style.width = `${Math.min(100, state.percentage ?? 0)}%`;
    this.fill.hidden = !state.percentage;
    this.#marks((state.tokenLimit && state.thresholds) || []);
    setText(this.cells.percentage, percent(state.percentage));
    setText(this.cells.amount, used(state));
    setAttribute(this.cells.amount, "title", exactly(state));
    setText(this.cells.burn, burn(state.burnTokensPerSecond));
  }

  #marks(thresholds) {
    const key = thresholds.join();
    if (this.marked === key) return;
    this.marked = key;
    const within = thresholds.filter((t) => t < 100);
    this.ticks.replaceChildren(...within.map(() => h("i")));
    within.forEach((t, at) => {
      this.ticks.children[at].style.left = `${t}%`;
    });
  }

  #times(state, now) {
    const out = exhaustion(state, now);
    const reset = until(state.periodEnd, now);
    write(this.cells.out, out, out === "–" || out === "used up");
    write(this.cells.reset, reset || "–", !reset);
    const known = state.tokenLimit ? `${percent(state.percentage)} used` : "no limit known";
    const label = [
      [`${state.provider} / ${state.model}`, state.userId].filter(Boolean).join(", "),
      `${known}, ${used(state)} ${unit(state.unit)}`,
      out === "–" ? "" : out === "used up" ? out : `runs out in ${out}`,
      reset && `resets in ${reset}`,
      this.alert && "ringing",
    ];
    setAttribute(this.open, "aria-label", label.filter(Boolean).join(", "));
  }
}

/** `bare`: it reads well without the words that a narrow screen puts before it. */
function write(cell, text, bare) {
  setText(cell, text);
  setAttribute(cell, "data-bare", bare ? "" : null);
}

/** "42 min", "used up", or "–" where nothing points to it. */
export function exhaustion(state, now) {
  if (state.percentage >= 100) return "used up";
  const before = state.periodEnd && state.exhaustsAt && state.exhaustsAt > state.periodEnd;
  return (!before && until(state.exhaustsAt, now)) || "–";
}

function exactly(state) {
  const limit = state.tokenLimit ? ` of ${whole(state.tokenLimit)}` : "";
  return `${whole(state.tokensUsed)}${limit} ${unit(state.unit)}`;
}

/** "1.2 M left", for the panel of one quota. */
export function left(state) {
  if (!state.tokenLimit) return "no limit known";
  const rest = state.tokenLimit - state.tokensUsed;
  return rest >= 0 ? `${amount(rest)} left` : `${amount(-rest)} over`;
}
