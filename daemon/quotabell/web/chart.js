// One quota's use over time, with its limit and thresholds: an SVG that can be read by keyboard.

import { h, setText, svg } from "./dom.js";
import { amount, clock, percent } from "./format.js";

const HEIGHT = 220;
const MARGIN = { top: 12, right: 12, bottom: 24, left: 46 };
const DAY = 86_400_000;

export class Chart {
  #points = [];
  #state;
  #span;
  #at = -1;

  constructor() {
    this.reading = h("p", { class: "reading", "aria-live": "polite" });
    this.drawing = svg("svg", { class: "chart", role: "img", tabindex: "0" });
    this.element = h("figure", { class: "plot" }, this.drawing, this.reading);
    this.drawing.addEventListener("pointermove", (event) => this.#point(event));
    this.drawing.addEventListener("pointerleave", () => this.#mark(-1));
    this.drawing.addEventListener("keydown", (event) => this.#pressed(event));
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  /** `points`: history items, oldest first; `from`, `to`: the time shown, in milliseconds. */
  show(state, points, from, to) {
    this.#state = state;
    this.#points = withPauses(points.map((p) => ({ at: Date.parse(p.time), used: p.tokensUsed })), (to - from) / 150);
    const last = { at: Math.min(to, Math.max(Date.parse(state.updatedAt), from)), used: state.tokensUsed };
    if (!this.#points.length || this.#points.at(-1).at < last.at) {
      this.#points = withPauses([...this.#points, last], (to - from) / 150);
    }
    if (this.#points.at(-1).at < to) this.#points.push({ at: to, used: state.tokensUsed });
    this.#span = { from, to };
    this.#draw();
  }

  #draw() {
    const width = this.element.clientWidth;
    if (!this.#state || !width) return;
    const { tokenLimit } = this.#state;
    const most = Math.max(tokenLimit ?? 0, ...this.#points.map((p) => p.used), 1) * 1.06;
    this.#x = scale(this.#span.from, this.#span.to, MARGIN.left, width - MARGIN.right);
    this.#y = scale(0, most, HEIGHT - MARGIN.bottom, MARGIN.top);
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.drawing.setAttribute("height", HEIGHT);
    this.drawing.setAttribute("aria-label", this.#summary());
    this.#cursor = svg("g", { class: "cursor" });
    this.drawing.replaceChildren(
      ...this.#grid(most, width),
      ...this.#line(),
      ...this.#limits(tokenLimit, width),
      this.#cursor,
    );
    this.#mark(Math.min(this.#at, this.#points.length - 1));
  }

  #x;
  #y;
  #cursor;

  #grid(most, width) {
    const left = MARGIN.left;
    const rows = steps(most).map((value) => [
      svg("line", { class: "grid", x1: left, x2: width - MARGIN.right, y1: this.#y(value), y2: this.#y(value) }),
      svg("text", { x: left - 6, y: this.#y(value) + 4, "text-anchor": "end" }, amount(value)),
    ]);
    const { from, to } = this.#span;
    const count = Math.max(2, Math.floor(width / 120));
    const columns = Array.from({ length: count }, (_, n) => {
      const at = from + ((to - from) * n) / (count - 1);
      const anchor = n === 0 ? "start" : n === count - 1 ? "end" : "middle";
      const text = clock(at, to - from > DAY);
      return svg("text", { x: this.#x(at), y: HEIGHT - 6, "text-anchor": anchor }, text);
    });
    return [...rows.flat(), ...columns];
  }

  #line() {
    const path = this.#points.map((p) => `${round(this.#x(p.at))} ${round(this.#y(p.used))}`).join("L");
    const [first, last] = [this.#points[0], this.#points.at(-1)];
    const floor = this.#y(0);
    return [
      svg("path", { class: "area", d: `M${this.#x(first.at)} ${floor}L${path}L${this.#x(last.at)} ${floor}Z` }),
      svg("path", { class: "line", d: `M${path}` }),
    ];
  }

  #limits(limit, width) {
    if (!limit) return [];
    const line = (share, kind) => {
      const y = this.#y((limit * share) / 100);
      return svg("line", { class: kind, x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y });
    };
    const thresholds = (this.#state.thresholds ?? []).filter((t) => t !== 100);
    const words = { x: width - MARGIN.right - 4, y: this.#y(limit) - 6, "text-anchor": "end", class: "words" };
    return [
      ...thresholds.map((t) => line(t, "threshold")),
      line(100, "limit"),
      svg("text", words, `limit ${amount(limit)}`),
    ];
  }

  #point(event) {
    const box = this.drawing.getBoundingClientRect();
    const x = event.clientX - box.left;
    let nearest = 0;
    this.#points.forEach((p, n) => {
      if (Math.abs(this.#x(p.at) - x) < Math.abs(this.#x(this.#points[nearest].at) - x)) nearest = n;
    });
    this.#mark(nearest);
  }

  #pressed(event) {
    const last = this.#points.length - 1;
    const at = this.#at < 0 ? last : this.#at;
    const to = { ArrowLeft: Math.max(0, at - 1), ArrowRight: at + 1, Home: 0, End: last, Escape: -1 }[event.key];
    if (to === undefined || (to === -1 && this.#at < 0)) return;
    event.preventDefault();
    this.#mark(Math.min(last, to));
  }

  #mark(at) {
    this.#at = at;
    const point = this.#points[at];
    if (!point) {
      this.#cursor?.replaceChildren();
      setText(this.reading, "");
      return;
    }
    const [x, y] = [this.#x(point.at), this.#y(point.used)];
    this.#cursor.replaceChildren(
      svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      svg("circle", { cx: x, cy: y, r: 4 }),
    );
    const limit = this.#state.tokenLimit;
    const share = limit ? `, ${percent((point.used * 100) / limit)}` : "";
    setText(this.reading, `${clock(point.at, true)}: ${amount(point.used)}${share}`);
  }

  #summary() {
    const first = this.#points[0];
    const { tokensUsed, tokenLimit } = this.#state;
    const limit = tokenLimit ? `, of a limit of ${amount(tokenLimit)}` : "";
    return `Use from ${amount(first.used)} at ${clock(first.at, true)} to ${amount(tokensUsed)} now${limit}. Arrow keys read the values.`;
  }
}

const MINUTE = 60_000;

/** A quota is sampled in the minutes in which it changes: what lies between two samples that are
 * further apart was no slow rise, but a pause. */
function withPauses(points, widest) {
  return points.flatMap((point, n) => {
    const before = points[n - 1];
    const pause = before && point.at - before.at > Math.max(2 * MINUTE, widest);
    return pause ? [{ at: point.at - MINUTE, used: before.used }, point] : [point];
  });
}

const round = (value) => Math.round(value * 10) / 10;

function scale(low, high, from, to) {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

/** Round values for the grid, four or five of them. */
function steps(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough) || 1;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => n * step);
}
