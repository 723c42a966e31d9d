"""How the page comes up where its parts do not all come, and in many tabs at once."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.common import PATIENCE, Site, live, quota
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
    asked = await _broken(page, "history.js")

    await page.goto(here.client.url + "/", wait_until="commit")

    await expect(page.locator("#stuck")).to_be_visible()
    await expect(page.get_by_role("link", name="Load it again")).to_be_visible()
    tries = len(asked)
    assert tries >= 4, "the first and three more"
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
