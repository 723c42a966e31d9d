// Asks for the token where the daemon wants one. It stays in this tab only.

import { h, setText } from "./dom.js";

export class Gate {
  #entered;

  /** `entered(token)` is called with what was typed. */
  constructor(place, entered) {
    this.place = place;
    this.#entered = entered;
    this.message = h("p", { class: "hint", role: "alert" });
    this.field = h("input", { type: "password", name: "token", autocomplete: "off", required: true, spellcheck: "false" });
    place.replaceChildren(
      h(
        "form",
        { onsubmit: (event) => this.#submitted(event) },
        h("h2", {}, "Who are you?"),
        h("p", {}, "This Quotabell asks for a token. Whoever runs it gives you one; it needs the scope read, and push for notifications. A signed one (JWT) of your application does as well, if it is taken here."),
        h("label", {}, "Token", this.field),
        this.message,
        h("button", { type: "submit", class: "primary" }, "Continue"),
        h("p", { class: "hint" }, "It is kept for this tab only and forgotten when you close it."),
      ),
    );
  }

  /** `problem`: why the last one was not taken; empty at first. */
  show(problem) {
    setText(this.message, problem);
    if (!this.place.hidden) return;
    this.place.hidden = false;
    this.field.value = "";
    this.field.focus();
  }

  hide() {
    this.place.hidden = true;
  }

  #submitted(event) {
    event.preventDefault();
    const token = this.field.value.trim();
    if (token) this.#entered(token);
  }
}
