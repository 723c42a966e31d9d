"""A page of another origin that uses the interface, as a front end of one's own does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from tests.browser.common import Site, quota, site
from tests.browser.test_trouble import enter
from tests.support.postgres import Database
from tests.support.tokens import SECRET, supabase

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = """async ([url, token]) => {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const report = { provider: "openai", model: "gpt-5", tokensUsed: 1, tokenLimit: 9 };
    const body = JSON.stringify(report);
    const ask = (path, options) => fetch(url + path, { headers, ...options }).then(
        async (answer) => [answer.status, (await answer.json()).success ?? null],
        () => "kept from me",
    );
    return [
        await ask("/api/token-monitor/update", { method: "POST", body }),
        await ask("/-/config", {}),
    ];
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def origin() -> AsyncIterator[str]:
    """A server of one empty page."""

    async def empty(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<!doctype html><title>app</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


_FOLLOW = """(address) => {
    const link = document.createElement("a");
    link.href = address;
    document.body.append(link);
    link.click();
}"""


async def _linked(here: Site, origin: str, page: Page) -> None:
    """Follow a link on a page of that origin to the one quota there is."""
    (item,) = (await here.client.get("/api/token-monitor/usage")).json["items"]
    await page.goto(origin + "/")
    await page.evaluate(_FOLLOW, f"{here.client.url}/?state={item['id']}")
    await page.wait_for_url(f"{here.client.url}/**")


async def test_a_link_of_another_site_opens_its_quota(here: Site, origin: str) -> None:
    """At the first visit, and where the worker is there already."""
    await here.report(80)
    page = await (await here.page("")).context.new_page()
    for site_of_link in (origin, origin.replace("127.0.0.1", "localhost")):
        await _linked(here, site_of_link, page)
        await expect(page.locator("#detail h2")).to_have_text("openai / gpt-5")
        await page.evaluate("navigator.serviceWorker.ready.then(() => 1)")


async def test_a_link_of_another_site_opens_its_quota_once_the_token_is_given(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None, origin: str
) -> None:
    tokens = [{"name": "ops", "token": "token-of-the-operator", "scopes": ["admin"]}]
    async with site(browser, tmp_path, fresh_database.dsn, auth={"tokens": tokens}) as here:
        here.client.headers["Authorization"] = "Bearer token-of-the-operator"
        await here.report(80)
        page = await (await here.page("")).context.new_page()
        await _linked(here, origin.replace("127.0.0.1", "localhost"), page)
        await enter(page, "token-of-the-operator")
        await expect(page.locator("#detail h2")).to_have_text("openai / gpt-5")


async def _asked(page: Page, origin: str, url: str) -> Any:
    await page.goto(origin + "/")
    return await page.evaluate(ASK, [url, supabase("alice")])


async def test_a_page_of_a_named_origin_reports_and_others_learn_nothing(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None, origin: str
) -> None:
    named = {"jwt": {"secret": SECRET}, "cors_origins": [origin]}
    async with site(browser, tmp_path, fresh_database.dsn, auth=named) as here:
        page = await browser.new_page()
        answers = await _asked(page, origin, here.client.url)
        assert answers == [[200, True], "kept from me"]
        answers = await _asked(page, origin.replace("127.0.0.1", "localhost"), here.client.url)
        assert answers == ["kept from me", "kept from me"]
        await page.close()


async def test_the_page_takes_a_token_of_the_front_end(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None
) -> None:
    auth = {"jwt": {"secret": SECRET}}
    async with site(browser, tmp_path, fresh_database.dsn, auth=auth) as here:
        for user, percent in (("alice", 80), ("bob", 95)):
            here.client.headers["Authorization"] = f"Bearer {supabase(user)}"
            await here.report(percent, userId=user)
        page, token = await here.page(), supabase("alice")

        await enter(page, supabase("alice", exp=1))
        await expect(page.locator("#gate")).to_contain_text("this token has expired")
        await enter(page, token)

        await expect(quota(page)).to_be_visible()
        await expect(page.locator("[data-quota]")).to_have_count(1)
        kept = await page.evaluate("[JSON.stringify({...localStorage}), document.cookie]")
        assert token not in "".join(kept)
        other = await page.context.new_page()
        await other.goto(here.client.url + "/")
        await expect(other.get_by_label("Token")).to_be_visible()
