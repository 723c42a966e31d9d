// All quotas, worst first. The first screenful is painted at once, more when there is time, and the
// rest when it is scrolled to: every keystroke in the filter replaces what is in the document.

import { h, setAttribute, setText } from "./dom.js";
import { Row } from "./row.js";

const FIRST = 40; // rows that are in place before the first paint
const CHUNK = 25; // rows that are added in one go after it, while the browser is idle
const AHEAD = 300; // rows that are in the document before anybody scrolls, and more each time
const HOLD = 2500; // milliseconds that the order stays after the pointer moved over the list
const HEADINGS = ["Quota", "Used", "", "Amount", "Burn", "Runs out", "Resets"];

export class QuotaList {
  #rows = new Map(); // id → Row
  #shown = []; // states in order
  #alerts = new Map();
  #filling = 0;
  #most = AHEAD;
  #movedAt = -Infinity;
  #late = 0;
  #current = ""; // where the tab key stops
  #stop;
  #selected;
  #now;
  #open;

  /** `open(id)` is called for the quota that was chosen; `now()` gives milliseconds. */
  constructor(place, { open, now }) {
    this.#open = open;
    this.#now = now;
    this.head = h("p", { class: "head", "aria-hidden": "true" }, ...HEADINGS.map((t) => h("span", {}, t)));
    this.element = h("ul", { class: "quotas", "aria-label": "Quotas, worst first" });
    this.element.addEventListener("click", (event) => this.#clicked(event));
    this.element.addEventListener("keydown", (event) => this.#pressed(event));
    this.element.addEventListener("pointermove", () => (this.#movedAt = performance.now()));
    this.element.addEventListener("pointerleave", () => (this.#movedAt = -Infinity));
    this.more = h("button", { type: "button", class: "quiet more", hidden: true, onclick: () => this.#grow() });
    new IntersectionObserver(([seen]) => seen.isIntersecting && this.#grow(), { rootMargin: "600px" }).observe(this.more);
    place.replaceChildren(this.head, this.element, this.more);
  }

  /** Show these states; `alerts` by state id, `all` every state there is by id. `keep`: only
   * figures changed, not what was asked for. */
  show(states, alerts, all, { keep = false } = {}) {
    this.#alerts = alerts;
    clearTimeout(this.#late);
    let shown = states;
    if (keep && performance.now() - this.#movedAt < HOLD) {
      this.#late = setTimeout(() => this.show(states, alerts, all, { keep }), HOLD);
      shown = this.#inOldOrder(states);
    }
    const focused = this.element.contains(document.activeElement) ? document.activeElement : null;
    if (!keep) this.#most = AHEAD;
    const same = sameOrder(shown, this.#shown);
    this.#shown = shown;
    for (const id of this.#rows.keys()) if (!all.has(id)) this.#rows.delete(id);
    if (same) this.#update();
    else this.#place(keep ? Math.max(FIRST, this.element.childElementCount) : FIRST);
    if (focused?.isConnected) focused.focus({ preventScroll: true });
    this.#rove();
  }

  /** Times go by although nothing changed. */
  tick() {
    this.#update();
  }

  /** Mark the quota whose panel is open. */
  select(id) {
    if (this.#selected === id) return;
    this.#mark(this.#selected, false);
    this.#mark((this.#selected = id), true);
    this.#current = id ?? this.#current;
    this.#rove();
  }

  #mark(id, yes) {
    const row = this.#rows.get(id);
    if (!row) return;
    row.element.toggleAttribute("data-open", yes);
    setAttribute(row.open, "aria-current", yes ? "true" : null);
  }

  focus(id) {
    this.#rows.get(id)?.open.focus();
  }

  #update() {
    const now = this.#now();
    for (const state of this.#shown) this.#rows.get(state.id)?.show(state, this.#alerts.get(state.id), now);
  }

  #inOldOrder(states) {
    const place = new Map(this.#shown.map((state, at) => [state.id, at]));
    return [...states].sort((a, b) => (place.get(a.id) ?? Infinity) - (place.get(b.id) ?? Infinity));
  }

  #row(state) {
    let row = this.#rows.get(state.id);
    if (!row) this.#rows.set(state.id, (row = new Row(state)));
    row.show(state, this.#alerts.get(state.id), this.#now());
    return row.element;
  }

  /** Put the first `count` rows in their places, and the others bit by bit. */
  #place(count) {
    cancelIdle(this.#filling);
    let at = this.element.firstElementChild;
    for (const state of this.#shown.slice(0, count)) {
      const element = this.#row(state);
      if (element === at) at = at.nextElementSibling;
      else this.element.insertBefore(element, at);
    }
    if (at) {
      const rest = document.createRange();
      rest.setStartBefore(at);
      rest.setEndAfter(this.element.lastChild);
      rest.deleteContents();
    }
    this.#continue(count);
  }

  #continue(from) {
    const most = Math.min(this.#most, this.#shown.length);
    this.#foot(most);
    if (from >= most) return;
    this.#filling = whenIdle((deadline) => {
      let at = from;
      do {
        const more = this.#shown.slice(at, Math.min(at + CHUNK, most)).map((state) => this.#row(state));
        this.element.append(...more);
        at += CHUNK;
      } while (at < most && deadline?.timeRemaining() > 3);
      this.#continue(at);
    });
  }

  #foot(shown) {
    const rest = this.#shown.length - shown;
    this.more.hidden = !rest;
    setText(this.more, `Show more of the other ${rest}`);
  }

  #grow() {
    this.#most += AHEAD;
    cancelIdle(this.#filling);
    this.#continue(this.element.childElementCount);
  }

  #clicked(event) {
    const row = event.target.closest("li");
    if (!row || getSelection()?.toString()) return;
    this.#current = row.dataset.id;
    this.#open(row.dataset.id);
  }

  /** One stop of the tab key; arrows move within. */
  #pressed(event) {
    const row = event.target.closest("li");
    const all = this.element;
    const target = {
      ArrowDown: row?.nextElementSibling,
      ArrowUp: row?.previousElementSibling,
      Home: all.firstElementChild,
      End: all.lastElementChild,
    }[event.key];
    if (!target) return;
    event.preventDefault();
    this.#current = target.dataset.id;
    this.#rove();
    target.querySelector("button").focus();
  }

  #rove() {
    const row = this.#rows.get(this.#current);
    const button = row?.element.isConnected ? row.open : this.element.querySelector("button");
    if (button === this.#stop) return;
    this.#stop?.setAttribute("tabindex", "-1");
    button?.setAttribute("tabindex", "0");
    this.#stop = button;
  }
}

const sameOrder = (one, other) => one.length === other.length && one.every((state, n) => state.id === other[n].id);

// Safari has no requestIdleCallback.
const whenIdle = (work) =>
  window.requestIdleCallback ? requestIdleCallback(work, { timeout: 200 }) : setTimeout(work, 16);
const cancelIdle = (id) => (window.cancelIdleCallback ? cancelIdleCallback(id) : clearTimeout(id));
