"""The page with thousands of quotas, in Debian's Chromium: its first bars, and a keystroke."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from playwright.async_api import Page, async_playwright, expect
from tests.support import chromium, daemon
from tests.support.postgres import connected
from tests.support.waiting import eventually

from bench.bell import Figure
from bench.ground import durable_cluster

QUOTAS = 5_000
FIRST_BARS = 1_000  # milliseconds
KEYSTROKE = 100
USER = "user-0421"
SEED = """
insert into token_usage (user_id, provider, model, tokens_used, token_limit)
select 'user-' || lpad(n::text, 4, '0'),
    (array['openai', 'anthropic', 'google'])[1 + n % 3],
    (array['gpt-5', 'claude-opus-5', 'gemini-3-pro', 'o-mini'])[1 + n % 4],
    case when n % 100 = 0 then 1000000 - n * 20 else (n * 7919) % 740000 end, 1000000
from generate_series(1, $1::integer) n
"""
# When the first bar was in place and the frame with it was painted; how long each key took.
_WATCH = """
window.firstBars = new Promise((resolve) => {
    new MutationObserver((_, observer) => {
        if (!document.querySelector("[data-quota]")) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
    }).observe(document, {childList: true, subtree: true});
});
window.keystrokes = [];
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
        if (entry.name === "keydown") window.keystrokes.push(entry.duration);
    }
}).observe({type: "event", durationThreshold: 16, buffered: true});
"""


async def run(rounds: int) -> AsyncIterator[Figure]:
    """Both, each the median of the rounds; the first round is not counted."""
    program = shutil.which(chromium.PROGRAM)
    if program is None:
        yield Figure(f"page with {QUOTAS:,} quotas", "chromium is not installed", "none", True)
        return
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        database = cluster.create_database()
        config = daemon.write_config(Path(made), database.dsn)
        async with daemon.process(config) as process, async_playwright() as playwright:
            async with connected(database.admin_dsn) as connection:
                await connection.execute(SEED, QUOTAS)
            browser = await playwright.chromium.launch(
                executable_path=program, args=chromium.arguments()
            )
            try:
                page = await browser.new_page(viewport={"width": 1360, "height": 850})
                await page.add_init_script(_WATCH)
                found = [await _round(page, process.url) for _ in range(rounds + 1)][1:]
            finally:
                await browser.close()
    for (what, budget), times in zip(
        (("first bars", FIRST_BARS), ("keystroke to paint", KEYSTROKE)),
        zip(*found, strict=True),
        strict=True,
    ):
        took = median(times)
        yield Figure(
            f"page with {QUOTAS:,} quotas, {what}",
            f"{took:.0f} ms; median of {rounds} rounds",
            f"≤ {budget} ms",
            took <= budget,
        )


async def _round(page: Page, url: str) -> tuple[float, float]:
    """Milliseconds to the first bars, and by the median of a name that is typed, to each paint."""
    await page.goto(url + "/")
    first: float = await page.evaluate("window.firstBars")
    await expect(page.locator(".count")).to_have_text(str(QUOTAS), timeout=30_000)
    await page.evaluate("window.keystrokes.length = 0")
    await page.get_by_label("Find quotas").focus()
    for key in [*USER, *["Backspace"] * len(USER)]:
        await page.keyboard.press(key)
        await page.wait_for_timeout(60)  # a fast typist's pace

    async def counted() -> list[float]:
        keys: list[float] = await page.evaluate("window.keystrokes")
        return keys if len(keys) >= len(USER) else []

    keys: list[float] = await eventually(counted)
    return first, median(keys)
