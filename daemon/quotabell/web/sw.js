// The worker: shows what is pushed, opens the quota that was clicked, keeps the subscription alive,
// and keeps the page itself for when the daemon cannot be reached. It never touches the API's data.

const VERSION = "@VERSION@"; // of all files of the page, written in by the daemon
const SHELL = ["@SHELL@"];
const CACHE = `quotabell-${VERSION}`;
const PUSH = "/api/push";

addEventListener("install", (event) => {
  event.waitUntil(keepShell().then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  event.waitUntil(Promise.all([dropOthers(), clients.claim()]));
});

addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  if (origin !== location.origin || event.request.method !== "GET" || !SHELL.includes(pathname)) return;
  const answer = pathname === "/" ? networkFirst : cacheFirst;
  event.respondWith(answer(event.request, pathname));
});

addEventListener("push", (event) => event.waitUntil(show(read(event.data))));

addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.url ?? "/"));
});

addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

async function keepShell() {
  const cache = await caches.open(CACHE);
  await cache.addAll(SHELL.map((path) => new Request(path, { cache: "no-cache" })));
}

async function dropOthers() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith("quotabell-") && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

/** By its address: passed on as it came, it would tell the daemon of the site that linked here, but
 * no longer that it opens a tab. Redirects are the browser's, as those of a proxy that wants a login. */
async function networkFirst(request, path) {
  try {
    return await fetch(request.url, { credentials: "include", redirect: "manual" });
  } catch (error) {
    const kept = await caches.match(path);
    if (kept) return kept;
    throw error;
  }
}

/** For what has its version in its address. */
async function cacheFirst(request, path) {
  return (await caches.match(path)) ?? fetch(request);
}

/** The message, whatever arrives: browsers want every push to show something. */
function read(data) {
  try {
    const message = data.json();
    if (message && typeof message.title === "string") return message;
  } catch {
    // Nothing that was sent by this daemon; still something happened.
  }
  return { title: "Quotabell", body: "Something happened to a quota. Open the page to see it.", tag: "" };
}

/** The tag names the alert, never its level, so a newer message replaces the older one. */
async function show(message) {
  const tag = message.tag ?? "";
  const state = tag.split(":")[0]; // the short form of a message has no address of its own
  const firing = message.state !== "resolved";
  let shown = true;
  try {
    await registration.showNotification(message.title, {
      body: message.body ?? "",
      tag,
      renotify: Boolean(tag) && firing,
      silent: !firing,
      icon: "/web/icon-192.png",
      badge: "/web/badge.png",
      data: { url: message.url ?? (state ? `/?state=${encodeURIComponent(state)}` : "/") },
    });
  } catch {
    shown = false;
  }
  await tell({ type: "push", message, shown });
}

async function tell(message) {
  for (const page of await pages()) page.postMessage(message);
}

/** Open windows of the page, not of other addresses of the daemon. */
async function pages() {
  const windows = await clients.matchAll({ type: "window", includeUncontrolled: true });
  return windows.filter((one) => new URL(one.url).pathname === "/");
}

async function open(address) {
  let url = new URL(address, location.origin);
  if (url.origin !== location.origin) url = new URL("/", location.origin);
  const [page] = await pages();
  if (!page) return clients.openWindow(url.href);
  page.postMessage({ type: "open", search: url.search });
  try {
    await page.focus();
  } catch {
    // Not every browser lets a worker do this; the page shows the quota all the same.
  }
}

/** The browser dropped or replaced the subscription. The worker has no token: an open page, or the
 * next visit, tells the daemon where it wants one. */
async function renew(event) {
  const key = event.oldSubscription?.options.applicationServerKey ?? (await publicKey());
  const subscription = event.newSubscription ??
    (await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key }));
  try {
    await fetch(`${PUSH}/subscribe`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ subscription: subscription.toJSON() }),
    });
  } finally {
    await tell({ type: "subscription" });
  }
}

async function publicKey() {
  return (await (await fetch(`${PUSH}/vapid-public-key`)).json()).publicKey;
}
