// The one button: from no notifications to a test message that arrived, and back.

import { button, h, setText } from "./dom.js";
import { NoPushService, obstacle } from "./subscription.js";

const ARRIVES = 20_000; // milliseconds within which a test message should be here
const CHECK = 30_000; // how often an open page looks whether the daemon still knows it
const WORDS = {
  off: "Notify me",
  asking: "Asking…",
  on: "Notifications on",
  blocked: "Notifications blocked",
  unsupported: "No notifications",
  error: "Try again",
};
const OBSTACLES = {
  insecure: "Browsers allow notifications only over https, or on localhost. Open this page by an https address, or put a proxy with a certificate in front of the daemon.",
  ios: "On iPhone and iPad, notifications need the page on the home screen: tap Share, then “Add to Home Screen”, and open Quotabell from there (iOS 16.4 or newer).",
  browser: "This browser has no Web Push. A current Firefox, Chrome, Edge or Safari has; private windows often have not.",
};
const HIDDEN = "The test message arrived, but the browser did not show it. See whether notifications are allowed in the settings of your system.";
const BLOCKED = "Notifications are blocked for this page. Click the icon left of the address, allow notifications, and press the button again.";
const NO_SERVICE = "The browser's push service gave no answer. It may be blocked by the network, or turned off in the browser's settings (in Brave: “Use Google services for push messaging”).";

export class Bell {
  #subscription;
  #api;
  #awaited = null; // resolves when the test message is here
  #pressed = false; // a press is being worked on
  #work = Promise.resolve(); // what is under way; the next waits for it

  constructor(button, notice, subscription, api) {
    this.button = button;
    this.notice = notice;
    this.#subscription = subscription;
    this.#api = api;
    button.addEventListener("click", () => this.press());
    this.#show(obstacle() ? "unsupported" : this.#rest());
  }

  get state() {
    return this.button.dataset.state;
  }

  /** Once the daemon answers: take up what was there, and keep it alive. */
  async start() {
    if (this.started || this.state === "unsupported") return;
    this.started = true;
    try {
      await this.#subscription.worker(); // it also keeps the page for when there is no network
    } catch (error) {
      return this.#fail(error, false);
    }
    await this.heal();
    navigator.permissions?.query({ name: "notifications" }).then((status) => {
      status.addEventListener("change", () => this.heal());
    }, () => {});
    setInterval(() => this.state === "on" && document.visibilityState === "visible" && this.heal(), CHECK);
  }

  async press() {
    if (this.state === "unsupported") return this.#say(OBSTACLES[obstacle()]);
    if (this.#pressed) return;
    this.#pressed = true;
    try {
      await (this.state === "on" ? this.#turnOff() : this.#turnOn());
    } catch (error) {
      this.#fail(error, true);
    } finally {
      this.#pressed = false;
    }
  }

  /** Quietly make good what broke since the last time. */
  async heal() {
    if (this.#pressed) return;
    await this.#alone(async () => {
      let alive = false;
      try {
        alive = await this.#subscription.heal();
      } catch (error) {
        const passing = error.status === undefined && !(error instanceof NoPushService);
        if (!passing && !this.#pressed) this.#fail(error, false);
        return;
      }
      if (!this.#pressed) this.#show(alive ? "on" : Notification.permission === "denied" ? "blocked" : "off");
    });
  }

  /** The state as far as it can be told without asking anybody. */
  #rest() {
    if (Notification.permission === "denied") return "blocked";
    return Notification.permission === "granted" && this.#subscription.wanted ? "on" : "off";
  }

  /** The worker got a message: perhaps the test that is waited for. */
  arrived(message, shown) {
    if (message.state !== "test" || !this.#awaited) return;
    this.#awaited(shown);
  }

  async #turnOn() {
    this.#show("asking");
    this.#say("Your browser asks whether this page may notify you.");
    const permission = await Notification.requestPermission(); // at once: it needs the press
    if (permission === "denied") {
      this.#show("blocked");
      return this.#say(BLOCKED);
    }
    if (permission !== "granted") {
      this.#show("off");
      return this.#say("Nothing was decided. Press the button again when you want to be notified.");
    }
    this.#say("Subscribing this browser…");
    await this.#alone(() => this.#subscription.begin());
    this.#show("on");
    this.#again();
  }

  async #turnOff() {
    await this.#alone(() => this.#subscription.end());
    this.#show("off");
    this.#say("This browser is not notified any more.");
  }

  async #test() {
    this.#say("A test message is on its way…", "sent");
    const arrival = new Promise((resolve) => {
      this.#awaited = resolve;
      setTimeout(resolve, ARRIVES, undefined);
    });
    try {
      const id = await this.#subscription.test();
      const shown = await arrival;
      if (shown) this.#say("Notifications are on: the test message arrived.", "arrived");
      else if (shown === false) this.#say(HIDDEN, "hidden");
      else this.#say(`The test message did not arrive within ${ARRIVES / 1000} s. ${await this.#whatBecameOf(id)}`, "missing");
    } finally {
      this.#awaited = null;
    }
  }

  #again() {
    return this.#test().catch((error) => this.#fail(error, true));
  }

  async #whatBecameOf(id) {
    try {
      const { items } = await this.#api.get("/api/push/history", { limit: 20 });
      const item = items.find((one) => one.id === id);
      const reason = item?.deliveries.map((d) => d.reason).find(Boolean) ?? item?.error;
      return item ? `The daemon says: ${item.status}${reason ? `, ${reason}` : ""}.` : "";
    } catch {
      return "";
    }
  }

  #fail(error, aloud) {
    this.#show(error.name === "NotAllowedError" ? "blocked" : "error");
    const words = error instanceof NoPushService || error.name === "AbortError" ? NO_SERVICE : error.message;
    if (aloud) this.#say(error.name === "NotAllowedError" ? BLOCKED : words, "failed");
    else this.button.title = words;
  }

  #alone(work) {
    const done = this.#work.then(work);
    this.#work = done.catch(() => {});
    return done;
  }

  #show(state) {
    const { button } = this;
    button.dataset.state = state;
    button.setAttribute("aria-pressed", state === "on");
    button.setAttribute("aria-busy", state === "asking");
    button.title = "";
    setText(button.querySelector(".words"), WORDS[state]);
  }

  #say(words, test = "") {
    const again = ["arrived", "missing", "hidden"].includes(test) &&
      button("Send another test", () => this.#again(), { class: "quiet" });
    const hide = () => (this.notice.hidden = true);
    const shut = button("✕", hide, { class: "quiet", "aria-label": "Dismiss" });
    this.notice.dataset.test = test;
    this.notice.hidden = false;
    this.notice.replaceChildren(...[h("span", {}, words), again, shut].filter(Boolean));
  }
}
