// Who reports, since when, and what of it was refused.

import { h, when } from "./dom.js";
import { ago, amount } from "./format.js";

const PATH = "/api/token-monitor/sources";
const HEADINGS = ["Source", "Kind", "First seen", "Last report", "Events", "Refused"];

export class Sources {
  #api;
  #drawn = "";

  constructor(place, api) {
    this.#api = api;
    this.rows = h("tbody");
    const headings = HEADINGS.map((words) => h("th", { scope: "col" }, words));
    place.replaceChildren(
      h("div", { class: "bar-title" }, h("h2", { id: "sources-title" }, "Sources")),
      h("p", { class: "hint" }, "Who reports usage, and what was refused and why."),
      h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...headings)), this.rows)),
    );
  }

  async refresh() {
    const { value } = await this.#api.read(PATH, { limit: 500 });
    const now = this.#api.now();
    const key = JSON.stringify([value, Math.floor(now / 10_000)]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    this.rows.replaceChildren(...value.items.map((source) => row(source, now)));
    if (!value.items.length) {
      this.rows.append(h("tr", {}, h("td", { colspan: HEADINGS.length, class: "empty" }, "Nobody has reported yet.")));
    }
  }
}

function row(source, now) {
  const refused = source.rejected
    ? [
        h("strong", {}, amount(source.rejected)),
        ` ${ago(source.lastRejectedAt, now)}`,
        source.lastError && h("span", { class: "why" }, source.lastError),
      ]
    : ["none"];
  const cells = [
    ["Kind", "", source.kind],
    ["First seen", "", when(source.firstSeen, ago(source.firstSeen, now))],
    ["Last report", "", when(source.lastEventAt, ago(source.lastEventAt, now)), ...stale(source)],
    ["Events", "number", amount(source.events)],
    ["Refused", source.rejected ? "wide" : "", ...refused],
  ];
  return h(
    "tr",
    { "data-source": source.name, "data-rejected": source.rejected, "data-stale": Boolean(source.staleSince) },
    h("td", { class: "strong" }, source.name),
    ...cells.map(([label, kind, ...content]) => h("td", { "data-label": label, class: kind }, ...content)),
  );
}

const stale = ({ staleSince }) => (staleSince ? [h("span", { class: "why" }, "stopped reporting")] : []);
