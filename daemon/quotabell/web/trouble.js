// Says when what is shown is not what is, why, and what to do.

import { setText } from "./dom.js";
import { clock } from "./format.js";

const WORDS = { loading: "Loading", live: "Live", late: "Not live", offline: "Offline" };

export class Trouble {
  #goodAt = 0;

  constructor(banner, light, api) {
    this.banner = banner;
    this.light = light;
    this.api = api;
  }

  /** How the last round went: an error, or null. */
  report(error) {
    if (!error) {
      this.#goodAt = Date.now();
      return this.clear();
    }
    const away = error.status === undefined;
    this.#light(away && !navigator.onLine ? "offline" : "late");
    const since = this.#goodAt ? ` What you see is from ${clock(this.#goodAt)}.` : "";
    this.#say(`${this.#cause(error, away)}${since}`);
  }

  /** Something that was asked for by hand did not work. */
  tell(error) {
    this.#say(error.message);
    setTimeout(() => (this.banner.hidden = true), 8000);
  }

  clear() {
    this.banner.hidden = true;
    this.#light(this.#goodAt ? "live" : "loading");
  }

  #cause(error, away) {
    if (away && !navigator.onLine) return "You are offline; the page goes on when the network is back.";
    if (away) return "The daemon does not answer. Is it running, and reachable from here? Trying again.";
    if (error.status === 503) return "The daemon runs, but its database is away or busy. Trying again.";
    return `The daemon answered ${error.status}: ${error.message} Trying again.`;
  }

  #say(words) {
    setText(this.banner, words);
    this.banner.hidden = false;
  }

  #light(state) {
    this.light.dataset.live = state;
    setText(this.light.querySelector(".words"), WORDS[state]);
  }
}
