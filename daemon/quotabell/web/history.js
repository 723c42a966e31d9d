// Every notification, each of its deliveries, each of their attempts.

import { button, h, setText, when } from "./dom.js";
import { ago } from "./format.js";

const PATH = "/api/push/history";
const NOTHING =
  "Nothing was sent yet. When a quota reaches a threshold, what was sent and to whom stands here.";
const STATUSES = ["sent", "pending", "failed", "suppressed"];

export class History {
  #api;
  #items = [];
  #cursor = null;
  #opened = new Set();
  #drawn = "";

  constructor(place, api) {
    this.#api = api;
    this.status = h(
      "select",
      { "aria-label": "Status", onchange: () => this.#choose() },
      h("option", { value: "" }, "All statuses"),
      ...STATUSES.map((name) => h("option", { value: name }, name)),
    );
    this.message = h("p", { class: "hint", role: "status" });
    this.list = h("ol", { class: "history" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.#older() }, "Older");
    place.replaceChildren(
      h("div", { class: "bar-title" }, h("h2", { id: "history-title" }, "Notifications"), this.status),
      this.message,
      this.list,
      this.more,
    );
  }

  async refresh() {
    const { value } = await this.#api.read(PATH, { status: this.status.value, limit: 50 });
    const newest = new Set(value.items.map((item) => item.id));
    const older = this.#items.length > 50 ? this.#items.slice(50).filter((item) => !newest.has(item.id)) : [];
    this.#items = [...value.items, ...older];
    if (!older.length) this.#cursor = value.nextCursor;
    this.#draw();
  }

  async #choose() {
    this.#items = [];
    await this.#tried(() => this.refresh());
  }

  async #older() {
    await this.#tried(async () => {
      const page = await this.#api.get(PATH, { status: this.status.value, limit: 50, cursor: this.#cursor });
      this.#items = [...this.#items, ...page.items];
      this.#cursor = page.nextCursor;
      this.#draw();
    });
  }

  async #resend(item) {
    await this.#tried(async () => {
      await this.#api.send("POST", `${PATH}/${item.id}/resend`);
      await this.refresh();
      setText(this.message, "It will be sent again.");
    });
  }

  async #tried(work) {
    setText(this.message, "");
    try {
      await work();
    } catch (error) {
      setText(this.message, error.message);
    }
  }

  #draw() {
    const now = this.#api.now();
    const key = JSON.stringify([this.#items, this.#cursor, Math.floor(now / 30_000)]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    this.more.hidden = !this.#cursor;
    const focused = this.list.contains(document.activeElement) && document.activeElement.dataset.key;
    this.list.replaceChildren(...this.#items.map((item) => this.#item(item, now)));
    if (focused) this.list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    if (!this.#items.length) {
      this.list.append(h("li", { class: "empty" }, NOTHING));
    }
  }

  #item(item, now) {
    const tries = item.deliveries.reduce((sum, delivery) => sum + delivery.attempts.length, 0);
    const deliveries = plural(item.deliveries.length, "delivery", "deliveries");
    return h(
      "li",
      { "data-notification": item.id, "data-status": item.status },
      h(
        "details",
        { open: this.#opened.has(item.id), ontoggle: (event) => this.#toggled(item.id, event.target.open) },
        h(
          "summary",
          { "data-key": `open-${item.id}` },
          h("span", { class: "badge", "data-status": item.status }, item.status),
          h("span", { class: "what" }, item.title),
          h("span", { class: "hint" }, h("bdi", {}, item.userId ?? "operators"), " · ", when(item.createdAt, ago(item.createdAt, now))),
        ),
        h("p", {}, item.body),
        item.error && h("p", { class: "hint" }, item.error),
        ...item.deliveries.map((delivery) => this.#delivery(delivery)),
        h(
          "p",
          { class: "actions" },
          h("span", { class: "hint" }, `${deliveries}, ${plural(tries, "attempt", "attempts")}`),
          button("Send again", () => this.#resend(item), { class: "quiet", "data-key": `again-${item.id}` }),
        ),
      ),
    );
  }

  #delivery(delivery) {
    const heading = [delivery.channel, delivery.name, delivery.status, delivery.reason].filter(Boolean).join(" · ");
    return h(
      "div",
      { class: "delivery", "data-status": delivery.status },
      h("p", {}, heading),
      h("ol", {}, ...delivery.attempts.map((attempt) => h("li", {}, attemptWords(attempt)))),
    );
  }

  #toggled(id, open) {
    if (open) this.#opened.add(id);
    else this.#opened.delete(id);
  }
}

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

function attemptWords(attempt) {
  const started = new Date(attempt.startedAt);
  const took = attempt.endedAt ? `${Date.parse(attempt.endedAt) - started} ms` : "under way";
  const result = [attempt.outcome, attempt.httpStatus, attempt.reason].filter(Boolean).join(" ");
  return `${started.toLocaleString()}: ${result || "no answer yet"} (${took})`;
}
