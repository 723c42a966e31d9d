"""Takes the pictures of the README anew: ``python -m tests.browser.screenshots``.

A daemon of its own with usage of the last hours, looked at with Chromium, and the bell with
Firefox. Look at them before they are committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Browser, expect

from tests.browser.common import PHONE, WIDE, live, quota
from tests.support import chromium, firefox
from tests.support.autopush import Autopush
from tests.support.daemon import configure, running
from tests.support.firefox import Firefox
from tests.support.postgres import TEMPLATE, Cluster, connected, embedded_18
from tests.support.waiting import eventually

IMAGES = Path(__file__).parents[2] / "docs" / "images"
QUOTAS = (  # provider, model, user, used, limit, hours until it resets
    ("anthropic", "claude-sonnet-5", "bob", 2_104_000, 2_000_000, 3.2),
    ("openai", "gpt-5", "alice", 1_822_000, 2_000_000, 3.2),
    ("anthropic", "claude-opus-5", "alice", 812_400, 1_000_000, 2.1),
    ("grok", "grok-3", "dave", 7_610, 10_000, 9),
    ("openai", "gpt-5", "frank", 1_210_000, 2_000_000, 3.2),
    ("google", "gemini-3-flash", "alice", 4_402_000, 10_000_000, 27),
    ("google", "gemini-3-pro", "carol", 310_000, 1_500_000, 27),
    ("openai", "gpt-5-mini", "bob", 90_400, 5_000_000, 3.2),
    ("mistral", "mistral-large", "erin", 480_000, None, None),
)
_STATE = """
insert into token_usage (provider, model, user_id, tokens_used, token_limit, period_start,
    period_end)
values ($1, $2, $3, $4, $5, now() - interval '7 hours', now() + make_interval(secs => $6))
returning id
"""
# A working day: little at first, then a steep hour and a slower end.
_SAMPLES = """
insert into usage_samples (state_id, time, used, lim, burn)
select $1, now() - make_interval(mins => 360 - n),
    $2::bigint * (0.04 + 0.96 * (0.5 - 0.5 * cos(pi() * n / 360.0)) * (0.9 + 0.1 * n / 360.0)),
    $3, $4
from generate_series(0, 359) n
"""
_BURN = """
insert into usage_burn (state_id, sampled_at, used, lim, burn)
values ($1, now() + interval '3 minutes', $2, $3, $4)
on conflict (state_id) do update set burn = excluded.burn, sampled_at = excluded.sampled_at
"""


async def seed(dsn: str) -> None:
    async with connected(dsn) as connection:
        for provider, model, user, used, limit, hours in QUOTAS:
            until = None if hours is None else hours * 3600
            state = await connection.fetchval(
                _STATE, provider, model, user, int(used), limit, until
            )
            burn = used / 26_000
            await connection.execute(_SAMPLES, state, int(used), limit, burn)
            await connection.execute(_BURN, state, int(used), limit, burn)


async def wide(browser: Browser, url: str, name: str, scheme: Any, path: str = "/") -> None:
    context = await browser.new_context(viewport=WIDE, color_scheme=scheme)
    page = await context.new_page()
    await page.goto(url + path)
    await live(page)
    if path == "/":
        await quota(page).click()
        await page.mouse.move(0, 0)
        await expect(page.locator("#detail h2")).to_have_text("openai / gpt-5")
        await page.locator("#detail .area").wait_for()
        await page.evaluate("document.activeElement.blur()")
    await page.wait_for_timeout(1000)  # for what glides into its place
    await page.screenshot(path=IMAGES / name)
    await context.close()


async def phone(browser: Browser, url: str) -> None:
    context = await browser.new_context(viewport=PHONE, device_scale_factor=1)
    page = await context.new_page()
    await page.goto(url + "/")
    await live(page)
    await page.wait_for_timeout(1000)
    await page.screenshot(path=IMAGES / "phone.png")
    await quota(page).click()
    await page.locator("#detail .area").wait_for()
    await page.evaluate("document.activeElement.blur()")
    await page.screenshot(path=IMAGES / "phone-quota.png")
    await context.close()


async def bell(url: str, push: Autopush) -> None:
    async with Firefox(push.socket_url, firefox.PROGRAM) as fox:
        size = {"width": 1100, "height": 420}
        await fox.command("browsingContext.setViewport", context=fox.tab, viewport=size)
        await fox.permit(url)
        await fox.visit(url + "/")
        await eventually(lambda: fox.run("return document.querySelector('[data-quota]') && 1"), 20)
        await fox.press("#bell")
        arrived = "return document.querySelector('#notice').dataset.test === 'arrived'"
        await eventually(lambda: fox.run(arrived), 20)
        await fox.run("document.activeElement.blur(); return 1")
        await fox.screenshot(IMAGES / "bell.png")


async def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    programs, program = embedded_18(), shutil.which(chromium.PROGRAM)
    assert programs is not None
    assert program is not None
    folder = Path(tempfile.mkdtemp())
    cluster = Cluster("18", programs)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(cluster.stop)
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.create_template)
        database = cluster.create_database(TEMPLATE)
        async with Autopush() as push:
            trusted = {"trusted_origins": [push.origin]}
            config = configure(folder, database.dsn, push=trusted)
            async with running(config) as daemon, aiohttp.ClientSession() as session:
                await seed(database.dsn)
                alerts = daemon.url + "/api/token-monitor/alerts"
                async with session.get(alerts) as answer:
                    items = (await answer.json())["items"]
                other = next(item for item in items if item["userId"] == "dave")
                await session.post(f"{alerts}/{other['id']}/ack")
                async with chromium.chromium(program) as browser:
                    await wide(browser, daemon.url, "quotas.png", "light")
                    await wide(browser, daemon.url, "quotas-dark.png", "dark")
                    await phone(browser, daemon.url)
                await bell(daemon.url, push)


if __name__ == "__main__":
    asyncio.run(main())
