// This browser's push subscription and what the daemon knows of it.

const KEPT = "quotabell.subscription"; // {wanted, id}: id is the daemon's name for it
const PATIENCE = 20_000; // milliseconds; some browsers never answer subscribe()
const PATH = "/api/push";

/** Why notifications cannot work here: "", insecure, ios or browser. */
export function obstacle() {
  if (!isSecureContext) return "insecure";
  if ("serviceWorker" in navigator && "PushManager" in window && "Notification" in window) return "";
  const touchMac = navigator.platform === "MacIntel" && navigator.maxTouchPoints > 1;
  return /iPhone|iPad|iPod/.test(navigator.userAgent) || touchMac ? "ios" : "browser";
}

/** The browser's push service gave no answer in time. */
export class NoPushService extends Error {}

export class Subscription {
  #api;

  constructor(api) {
    this.#api = api;
  }

  /** Whether the person at this browser wants to be told: true, false, or undefined if unasked. */
  get wanted() {
    return this.#kept.wanted;
  }

  async worker() {
    const registration = await navigator.serviceWorker.register("/sw.js", { scope: "/" });
    if (!registration.active) await installed(registration.installing ?? registration.waiting);
    return navigator.serviceWorker.ready;
  }

  /** Subscribe this browser and tell the daemon; what is there and alive is kept. */
  async begin() {
    this.#kept = { ...this.#kept, wanted: true };
    const { pushManager } = await this.worker();
    const { publicKey } = await this.#api.get(`${PATH}/vapid-public-key`);
    let subscription = await pushManager.getSubscription();
    if (subscription && !(await this.#alive(subscription, publicKey))) {
      // Only this brings a new endpoint: subscribe() goes on giving the dead one.
      await subscription.unsubscribe();
      subscription = null;
    }
    subscription ??= await patiently(
      pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: publicKey }),
    );
    await this.#tell(subscription, publicKey);
  }

  /** Make good what was lost since the last visit; false if there is nothing to keep alive. */
  async heal() {
    if (Notification.permission !== "granted" || this.wanted === false) return false;
    const { pushManager } = await this.worker();
    if (!this.wanted && !(await pushManager.getSubscription())) return false;
    await this.begin();
    return true;
  }

  /** End it here and at the daemon, whichever of them can be reached. */
  async end() {
    this.#kept = { wanted: false };
    const { pushManager } = await this.worker();
    const subscription = await pushManager.getSubscription();
    if (!subscription) return;
    try {
      await this.#api.send("POST", `${PATH}/unsubscribe`, { subscription: subscription.toJSON() });
    } catch {
      // What it sends from now on is answered with 410, which ends it there, too.
    }
    await subscription.unsubscribe();
  }

  /** Queue a test message; its id. */
  async test() {
    return (await this.#api.send("POST", `${PATH}/test`, {})).notificationId;
  }

  async #alive(subscription, publicKey) {
    const made = subscription.options?.applicationServerKey;
    if (made && base64url(made) !== publicKey) return false;
    const { id } = this.#kept;
    if (!id) return true;
    const { items } = await this.#api.get(`${PATH}/subscriptions`, { limit: 500 });
    const known = items.find((item) => item.id === id);
    return !known || known.isActive || !known.reason?.startsWith("gone");
  }

  async #tell(subscription, applicationServerKey) {
    const body = { subscription: subscription.toJSON(), applicationServerKey };
    const stored = await this.#api.send("POST", `${PATH}/subscribe`, body);
    this.#kept = { wanted: true, id: stored.id };
    if (!stored.active) throw new Error(`The daemon cannot reach this browser: ${stored.reason}.`);
  }

  get #kept() {
    try {
      return JSON.parse(localStorage.getItem(KEPT)) ?? {};
    } catch {
      return {};
    }
  }

  set #kept(value) {
    localStorage.setItem(KEPT, JSON.stringify(value));
  }
}

/** A worker that could not fetch its files is dropped, and `ready` would be waited for in vain. */
function installed(worker) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (worker.state === "activated") resolve();
      if (worker.state === "redundant") reject(new Error("This page could not be kept for notifications. Press again."));
    };
    worker.addEventListener("statechange", look);
    look();
  });
}

function patiently(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new NoPushService()), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function base64url(buffer) {
  const text = btoa(String.fromCharCode(...new Uint8Array(buffer)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
