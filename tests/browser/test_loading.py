"""How the page comes up where its parts do not all come, and in many tabs at once."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from tests.browser.common import PATIENCE, Site, live, quota, site
from tests.browser.conftest import program
from tests.support import chromium
from tests.support.certificates import Authority
from tests.support.chromium import Complaints
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKER = """navigator.serviceWorker.register("/sw.js")
    .then(() => navigator.serviceWorker.ready)
    .then(({ active }) => active.scriptURL)"""
TABS = 8  # a browser has six connections to one host


async def _broken(page: Page, part: str, *, times: int | None = None) -> list[str]:
    """Let a part of the page fail; what was asked for."""
    asked: list[str] = []

    async def fail(route: Route) -> None:
        asked.append(route.request.url)
        await route.abort("failed")

    options: dict[str, Any] = {} if times is None else {"times": times}
    await page.route(f"**/{part}", fail, **options)
    return asked


async def test_the_page_and_its_worker_come_over_https(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None
) -> None:
    issued = Authority().issue("localhost")
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    issued.write(*files)
    tls = dict(zip(("cert_file", "key_file"), map(str, files), strict=True))
    trust = ssl.create_default_context(cadata=issued.chain.decode())
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    switches = [f"--ignore-certificate-errors-spki-list={issued.spki}"]
    found = program(chromium.PROGRAM)
    async with chromium.chromium_with_profile(found, tmp_path / "profile", switches) as profile:
        async with site(browser, tmp_path, fresh_database.dsn, trust, tls=tls) as here:
            assert here.client.url.startswith("https://")
            await here.report(91)
            page = await profile.new_page()
            here.complaints.append(Complaints(page, here.client.url))
            await page.goto(here.client.url + "/")
            await live(page)
            await expect(quota(page)).to_have_attribute("data-percentage", "91")
            assert await page.evaluate("isSecureContext")
            worker = await page.evaluate(WORKER)
            await page.close()

    assert worker == here.client.url + "/sw.js"


@pytest.mark.parametrize("part", ["history.js", "main.js", "style.css"])
async def test_a_part_that_did_not_come_is_asked_for_again(here: Site, part: str) -> None:
    await here.report(50)
    page = await here.page("")
    asked = await _broken(page, part, times=2)

    await page.goto(here.client.url + "/", wait_until="commit")

    await eventually(lambda: len(asked) == 2, PATIENCE)
    await page.wait_for_load_state()
    await live(page)
    await expect(quota(page)).to_be_visible()
    await expect(page.locator("#stuck")).to_have_count(0)


async def test_a_page_that_never_comes_completely_says_so_and_what_to_do(here: Site) -> None:
    page = await here.page("")
    tries: list[Request] = []
    page.on("request", lambda asked: tries.append(asked) if asked.is_navigation_request() else None)
    await _broken(page, "history.js")

    await page.goto(here.client.url + "/", wait_until="commit")

    await eventually(lambda: len(tries) == 4, PATIENCE)  # the first and three more
    await expect(page.locator("#stuck")).to_be_visible()
    await expect(page.get_by_role("link", name="Load it again")).to_be_visible()
    assert len(tries) == 4
    await page.unroute("**/history.js")
    await page.get_by_role("link", name="Load it again").click()
    await live(page)


async def test_a_worker_that_could_not_be_installed_is_said_to_be_and_tried_again(
    here: Site,
) -> None:
    page = await here.page("", notify=True)
    await page.context.route("**/web/*/icon-512.png", lambda route: route.abort())
    await page.goto(here.client.url + "/")
    await live(page)

    await page.locator("#bell").click()

    await expect(page.locator("#bell")).to_have_attribute("data-state", "error")
    await expect(page.locator("#notice")).to_contain_text("could not be kept")
    await page.context.unroute("**/web/*/icon-512.png")
    await page.locator("#bell").click()
    ready = "navigator.serviceWorker.ready.then((worker) => Boolean(worker.active))"
    assert await page.evaluate(ready)


async def test_eight_tabs_of_one_browser_are_all_live(here: Site) -> None:
    first = await here.page()
    await live(first)
    pages = [first]
    for _ in range(TABS - 1):
        page = await first.context.new_page()
        await page.goto(here.client.url + "/")
        pages.append(page)
    for page in pages:
        await live(page)

    await here.report(64)

    for page in pages:
        await expect(quota(page)).to_have_attribute("data-percentage", "64")
