// Asking again and again: while the tab is seen, at once when it is seen again, and less often
// while it fails.

const FASTEST = 2000; // milliseconds
const SLOWEST = 30_000;

export class Poll {
  #work;
  #told;
  #timer = 0;
  #running = false;
  #again = false;
  #wait = FASTEST;
  #stopped = true;

  /** `work` is awaited; `told(error | null)` hears how it went. */
  constructor(work, told) {
    this.#work = work;
    this.#told = told;
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.now();
    });
    addEventListener("online", () => this.now());
    addEventListener("offline", () => this.now());
  }

  start() {
    this.#stopped = false;
    return this.now();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Ask at once; if a round is under way, once more after it. */
  async now() {
    if (this.#stopped) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#running = true;
    try {
      do {
        this.#again = false;
        await this.#round();
      } while (this.#again && !this.#stopped);
    } finally {
      this.#running = false;
    }
    if (!this.#stopped && document.visibilityState === "visible") {
      this.#timer = setTimeout(() => this.now(), this.#wait);
    }
  }

  async #round() {
    try {
      await this.#work();
      this.#wait = FASTEST;
      this.#told(null);
    } catch (error) {
      this.#wait = Math.min(this.#wait * 2, SLOWEST);
      this.#told(error);
    }
  }
}
