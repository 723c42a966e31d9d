// What stands where quotas would be: while they load, when there are none, when none fit.

import { h } from "./dom.js";

export function loading() {
  return h("div", { class: "skeleton", "aria-label": "Loading", role: "img" }, ...Array.from({ length: 6 }, () => h("span")));
}

export function nothingYet() {
  const body = '{"provider":"openai","model":"gpt-5","userId":"me","tokensUsed":1000,"tokenLimit":10000}';
  const command = `curl -X POST ${location.origin}/api/token-monitor/update -H "Content-Type: application/json" -d '${body}'`;
  const copy = h("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(command);
    copy.textContent = "Copied";
  });
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "No usage yet"),
    h("p", {}, "Quotas appear here the moment a program reports. Try it:"),
    h("pre", { tabindex: "0" }, h("code", {}, command)),
    copy,
  );
}

export function noneFits(clear) {
  return h("div", { class: "empty" }, h("h2", {}, "No quota fits"), h("button", { type: "button", onclick: clear }, "Show all"));
}

export function mayNot(detail, change) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "This token may not see quotas"),
    h("p", {}, detail),
    h("button", { type: "button", onclick: change }, "Use another token"),
  );
}
