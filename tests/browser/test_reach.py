"""For everybody: screen readers, keyboards, phones, dark rooms, home screens."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Page, expect

from tests.browser.common import PHONE, WIDE, Site, live, quota

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIEWS = ("quotas", "history", "thresholds", "sources")
_AXE = AXE_FILE_PATH.read_text("utf-8")


async def shown(here: Site, view: str, **options: Any) -> Page:
    """A view with something in it."""
    await here.report(50)
    await here.report(91)
    await here.report(40, model="gpt-4", userId="bob")
    await here.client.post(
        "/api/token-monitor/thresholds", json={"provider": "grok", "thresholdPercentage": 60}
    )
    page = await here.page("/" if view == "quotas" else f"/#{view}", **options)
    await live(page)
    await page.locator(f"#{view}").wait_for()
    return page


async def grave(page: Page) -> list[str]:
    """What axe finds to be serious or critical."""
    await page.evaluate(_AXE + "; 1")  # by the protocol: the page's policy stays in force
    found: dict[str, Any] = await page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    return [
        f"{one['id']}: {node['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
async def test_axe_finds_nothing_serious(here: Site, scheme: Any, size: Any) -> None:
    page = await shown(here, "quotas", color_scheme=scheme, viewport=size)
    await quota(page).click()
    await expect(page.locator("#detail")).to_be_visible()
    assert await grave(page) == []

    silencing = page.get_by_label("Silence openai / gpt-5").locator("visible=true").first
    await silencing.select_option("for 1 h")
    await expect(page.get_by_role("dialog", name="Silence openai / gpt-5")).to_be_visible()
    assert await grave(page) == []
    await page.keyboard.press("Escape")
    await expect(page.get_by_label("Reason")).to_have_count(0)

    if size is PHONE:
        await expect(page.locator("#detail")).to_be_visible()
        await page.keyboard.press("Escape")
        assert await grave(page) == []
    for view in VIEWS[1:]:
        await page.goto(f"{here.client.url}/#{view}")
        await live(page)
        if view == "history":
            await page.locator("summary").first.click()
        assert await grave(page) == [], view


@pytest.mark.parametrize("width", [WIDE["width"], PHONE["width"], 320])
async def test_nothing_is_wider_than_the_screen_whatever_the_names(here: Site, width: int) -> None:
    """320 CSS pixels: WCAG 2.2, 1.4.10."""
    endless = {"model": "without-an-end-" * 8, "userId": "somebody.at.a.long.address@" + "x" * 60}
    await here.report(95, **endless)
    page = await shown(here, "quotas", viewport={"width": width, "height": 700})
    for view in VIEWS:
        await page.goto(f"{here.client.url}/#{view}")
        await page.locator(f"#{view}").wait_for()

        assert await page.evaluate("document.documentElement.scrollWidth") <= width, view
    await page.goto(f"{here.client.url}/#quotas")
    await quota(page, endless["model"], endless["userId"]).click()
    await expect(page.locator("#detail .area")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    panel = "(panel) => panel.scrollWidth <= panel.clientWidth"
    assert await page.locator("#detail").evaluate(panel)


async def test_on_a_phone_the_panel_covers_the_page_until_it_is_closed(here: Site) -> None:
    page = await shown(here, "quotas", viewport=PHONE)
    panel = page.locator("#detail")
    await expect(panel).to_be_hidden()

    await quota(page).click()
    box = await panel.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (PHONE["width"], PHONE["height"])
    await page.get_by_role("button", name="Close").click()

    await expect(panel).to_be_hidden()
    await expect(quota(page)).to_be_visible()


async def test_all_of_the_top_is_reached_by_the_tab_key_in_order(here: Site) -> None:
    page = await shown(here, "quotas")
    seen = []
    for _ in range(9):
        await page.keyboard.press("Tab")
        seen.append(await page.evaluate("document.activeElement.textContent.trim()"))

    expected = ["Skip to the content", "Quotabell", "Quotas", "History", "Thresholds", "Sources"]
    assert seen == [*expected, "Notify me", "openai / gpt-5", "Ack"]  # what rings comes first


async def test_the_page_can_be_installed(here: Site) -> None:
    page = await shown(here, "quotas")
    session = await page.context.new_cdp_session(page)

    manifest = await session.send("Page.getAppManifest")
    errors = await session.send("Page.getInstallabilityErrors")

    assert manifest["url"] == here.client.url + "/manifest.webmanifest"
    assert manifest["errors"] == []
    # The browser of the test has no profile to install anything into.
    found = {error["errorId"] for error in errors["installabilityErrors"]}
    assert found <= {"in-incognito"}
