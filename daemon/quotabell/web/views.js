// Which of the views is seen: the part of the address after #.

import { byId } from "./dom.js";

const NAMES = ["quotas", "history", "thresholds", "sources"];

export class Views {
  /** `changed()` is called when another one is chosen. */
  constructor(nav, changed) {
    this.nav = nav;
    addEventListener("hashchange", () => {
      this.show();
      changed();
    });
  }

  get current() {
    const name = location.hash.slice(1);
    return NAMES.includes(name) ? name : "quotas";
  }

  go(name) {
    if (this.current !== name) location.hash = name;
  }

  show() {
    for (const name of NAMES) byId(name).hidden = name !== this.current;
    for (const link of this.nav.children) {
      if (link.hash === `#${this.current}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  hide() {
    for (const name of NAMES) byId(name).hidden = true;
  }
}
