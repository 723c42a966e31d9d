"""What the page says when something is missing: a token, a scope, the daemon, the network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from tests.browser.common import Site, live, quota, site
from tests.support.postgres import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL, ALICE, SENDER = "token-of-the-operator", "token-of-alice-only", "token-to-send-only"
TOKENS = [
    {"name": "ops", "token": ALL, "scopes": ["admin"]},
    {"name": "alice", "token": ALICE, "scopes": ["read", "push"], "user": "alice"},
    {"name": "sender", "token": SENDER, "scopes": ["ingest"]},
]
USAGE = "**/api/token-monitor/usage?*"


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None
) -> AsyncIterator[Site]:
    auth = {"tokens": TOKENS}
    async with site(browser, tmp_path, fresh_database.dsn, auth=auth) as guarded:
        guarded.client.headers["Authorization"] = f"Bearer {ALL}"
        yield guarded


async def enter(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Continue").click()


async def test_the_page_asks_for_the_token_and_keeps_it_for_the_tab_only(guarded: Site) -> None:
    await guarded.report(50)
    page = await guarded.page()
    await expect(page.get_by_label("Token")).to_be_focused()
    await expect(page.locator("#bell")).to_be_hidden()

    await enter(page, "token-that-nobody-gave")
    await expect(page.locator("#gate")).to_contain_text("this token is not known")
    await enter(page, ALL)
    await expect(quota(page)).to_be_visible()
    await expect(page.locator("#bell")).to_be_visible()

    await page.reload()
    await expect(quota(page)).to_be_visible()
    kept = await page.evaluate("[JSON.stringify({...localStorage}), document.cookie]")
    assert ALL not in "".join(kept)
    other = await page.context.new_page()
    await other.goto(guarded.client.url + "/")
    await expect(other.get_by_label("Token")).to_be_visible()

    await page.get_by_role("button", name="Forget token").click()
    await expect(page.get_by_label("Token")).to_be_visible()
    await expect(page.locator("[data-quota]")).to_have_count(0)
    await page.reload()
    await expect(page.get_by_label("Token")).to_be_visible()


async def test_the_token_of_a_user_shows_the_world_of_that_user(guarded: Site) -> None:
    await guarded.report(80)
    await guarded.report(95, userId="bob")
    page = await guarded.page()

    await enter(page, ALICE)

    await expect(quota(page)).to_be_visible()
    await expect(page.locator("[data-quota]")).to_have_count(1)
    await expect(page.locator("#ringing [data-alert]")).to_have_count(1)
    await page.get_by_role("link", name="History").click()
    await expect(page.locator("[data-notification]")).to_have_count(1)


async def test_a_token_that_may_not_read_is_told_so_and_another_one_asked_for(
    guarded: Site,
) -> None:
    page = await guarded.page()

    await enter(page, SENDER)

    await expect(page.locator(".empty")).to_contain_text("may not see quotas")
    await expect(page.locator(".empty")).to_contain_text("needs the scope read")
    await page.get_by_role("button", name="Use another token").click()
    await enter(page, ALL)
    await live(page)


async def _hold(route: Route) -> None:
    """Neither answer nor pass it on."""


async def test_while_it_loads_the_page_says_so(here: Site) -> None:
    page = await here.page("")
    await page.route(USAGE, _hold)
    await page.goto(here.client.url + "/")

    await expect(page.locator("#live")).to_have_text("Loading")
    await expect(page.get_by_role("img", name="Loading")).to_be_visible()

    await page.unroute(USAGE)  # what was held goes on
    await live(page)
    await expect(page.get_by_role("img", name="Loading")).to_have_count(0)


@pytest.mark.parametrize(
    ("status", "words"),
    [(503, "its database is away"), (500, "The daemon answered 500")],
)
async def test_an_error_says_what_is_wrong_and_the_page_goes_on_by_itself(
    here: Site, status: int, words: str
) -> None:
    await here.report(50)
    page = await here.page()
    await expect(quota(page)).to_be_visible()

    problem: dict[str, Any] = {"status": status, "detail": "made up by the test"}
    await page.route(USAGE, lambda route: route.fulfill(status=status, json=problem))
    await expect(page.locator("#trouble")).to_contain_text(words)
    await expect(page.locator("#trouble")).to_contain_text("What you see is from")
    await expect(page.locator("#live")).to_have_attribute("data-live", "late")
    await expect(quota(page)).to_be_visible()

    await page.unroute(USAGE)
    await live(page)
    await expect(page.locator("#trouble")).to_be_hidden()


async def test_offline_the_page_opens_says_so_and_goes_on_when_the_network_is_back(
    here: Site,
) -> None:
    await here.report(50)
    page = await here.page()
    await live(page)
    await page.evaluate("navigator.serviceWorker.ready.then(() => 1)")

    await page.context.set_offline(True)
    await expect(page.locator("#trouble")).to_contain_text("You are offline")
    await expect(page.locator("#live")).to_have_attribute("data-live", "offline")
    await page.reload()
    await expect(page.locator("#trouble")).to_contain_text("You are offline")
    drawn = "(picture) => picture.complete && picture.naturalWidth > 0"
    assert await page.locator(".brand img").evaluate(drawn)

    await page.context.set_offline(False)
    await live(page)
    await expect(quota(page)).to_be_visible()


async def test_a_quota_that_is_gone_is_said_to_be(here: Site) -> None:
    await here.report(50)

    page = await here.page("/?state=00000000-0000-4000-8000-000000000000")

    await expect(page.locator("#trouble")).to_contain_text("no longer there")
