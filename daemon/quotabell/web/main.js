// Puts the page together.

import { Api, Unreachable } from "./api.js";
import { Bell } from "./bell.js";
import { byId, setText } from "./dom.js";
import { Dashboard } from "./dashboard.js";
import { Gate } from "./gate.js";
import { History } from "./history.js";
import { Poll } from "./poll.js";
import { Sources } from "./sources.js";
import { Subscription } from "./subscription.js";
import { Thresholds } from "./thresholds.js";
import { Trouble } from "./trouble.js";
import { Views } from "./views.js";

const TICK = 10_000; // milliseconds; times on the page are no finer

const api = new Api();
const bell = new Bell(byId("bell"), byId("notice"), new Subscription(api), api);
const trouble = new Trouble(byId("trouble"), byId("live"), api);
const gate = new Gate(byId("gate"), enter);
const views = new Views(byId("nav"), () => poll.now());
const poll = new Poll(round, told);
const dashboard = new Dashboard(api, { views, poll, told: (error) => trouble.tell(error) });
const others = {
  history: new History(byId("history"), api),
  thresholds: new Thresholds(byId("thresholds"), api, () => poll.now()),
  sources: new Sources(byId("sources"), api),
};

async function round() {
  await dashboard.refresh();
  others.thresholds.offer(dashboard.providers);
  await others[views.current]?.refresh();
}

function told(error) {
  if (error?.status === 401) return ask(api.token ? error.message : "");
  if (error?.status === 403 && !dashboard.loaded) {
    dashboard.forbid(error.message, () => ask(""));
    return trouble.clear();
  }
  trouble.report(error);
  if (error) {
    if (!(error instanceof Unreachable) && error.status === undefined) console.error(error);
    return;
  }
  byId("forget").hidden = !api.token;
  bell.start();
}

function ask(problem) {
  api.token = "";
  poll.stop();
  dashboard.forget();
  trouble.clear();
  views.hide();
  document.body.dataset.gate = "shown";
  byId("forget").hidden = true;
  gate.show(problem);
}

function enter(token) {
  api.token = token;
  gate.hide();
  delete document.body.dataset.gate;
  views.show();
  poll.start();
}

byId("forget").addEventListener("click", () => ask(""));

navigator.serviceWorker?.addEventListener("message", ({ data }) => {
  if (data.type === "push") {
    bell.arrived(data.message, data.shown);
    poll.now();
  }
  if (data.type === "open") dashboard.follow(data.search);
  if (data.type === "subscription") bell.heal();
});

byId("stuck").remove(); // all of the page is here
setInterval(() => dashboard.tick(), TICK);
setText(byId("live").querySelector(".words"), "Loading");
views.show();
poll.start();
