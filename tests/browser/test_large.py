"""Five thousand quotas: what is in the document, and what a search leaves of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from bench.page import QUOTAS, SEED, USER
from playwright.async_api import Browser, expect

from tests.browser.common import Site, live, site
from tests.support.postgres import Database, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

AHEAD = 300  # rows in the document before anybody scrolls


@pytest_asyncio.fixture(loop_scope="module")
async def crowded(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None
) -> AsyncIterator[Site]:
    async with connected(fresh_database.dsn) as connection:
        await connection.execute(SEED, QUOTAS)
    async with site(browser, tmp_path, fresh_database.dsn) as crowded:
        yield crowded


async def test_scrolling_brings_the_quotas_that_are_not_in_the_document_yet(crowded: Site) -> None:
    page = await crowded.page()
    rows = page.locator("[data-quota]")
    await expect(rows).to_have_count(AHEAD)

    await rows.last.scroll_into_view_if_needed()
    await expect(rows).to_have_count(2 * AHEAD)
    shares = await rows.evaluate_all("rows => rows.map((row) => Number(row.dataset.percentage))")
    assert shares == sorted(shares, reverse=True)


async def test_what_is_typed_leaves_only_what_fits(crowded: Site) -> None:
    page = await crowded.page()
    await live(page)
    await expect(page.locator(".count")).to_have_text(str(QUOTAS))

    await page.get_by_label("Find quotas").fill(USER)
    await expect(page.locator("[data-quota]")).to_have_count(1)
    assert await page.locator("[data-quota]").get_attribute("data-user") == USER

    await page.get_by_label("Find quotas").fill("")
    await expect(page.locator("[data-quota]")).to_have_count(AHEAD)
