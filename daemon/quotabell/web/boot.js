// Before all else, and no module: loads the page again where one of its parts did not come, without
// which none of the others runs. Browsers break off what they wait for when the network changes,
// be it that a container starts.

{
  const KEPT = "quotabell.loads"; // {since, count} of what was tried in this tab
  const WAITS = [0, 1000, 4000]; // milliseconds before each try; after them the page itself says it
  const FORGET = 60_000; // milliseconds

  const styled = () => {
    try {
      return document.styleSheets[0].cssRules.length > 0;
    } catch {
      return false; // the rules of a sheet that did not come may not be read
    }
  };
  const complete = () => !document.getElementById("stuck") && styled();

  const again = () => {
    if (complete()) return;
    if (!navigator.onLine) return addEventListener("online", again, { once: true });
    const kept = JSON.parse(sessionStorage.getItem(KEPT)) ?? { since: 0, count: 0 };
    const { since, count } = Date.now() - kept.since > FORGET ? { since: Date.now(), count: 0 } : kept;
    if (count >= WAITS.length) return;
    sessionStorage.setItem(KEPT, JSON.stringify({ since, count: count + 1 }));
    setTimeout(() => location.reload(), WAITS[count]);
  };

  addEventListener("load", again); // it waits for all parts, those that fail too
}
