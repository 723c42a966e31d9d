"""What tests of the page share: a daemon, a page of it, and what is looked at."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Browser, Locator, Page, ViewportSize, expect

from tests.http.client import Client, snapshot
from tests.support.chromium import Complaints
from tests.support.daemon import configure, running

WIDE: ViewportSize = {"width": 1360, "height": 850}
PATIENCE = 60.0  # seconds, for a busy machine; what comes true is seen at once on any
PHONE: ViewportSize = {"width": 390, "height": 844}


@dataclass(slots=True)
class Site:
    """A daemon and pages of it; what those complain of fails the test."""

    client: Client
    browser: Browser
    complaints: list[Complaints]
    stack: contextlib.AsyncExitStack

    async def page(self, path: str = "/", *, notify: bool = False, **options: Any) -> Page:
        """A page in a context of its own, which is like a new profile."""
        context = await self.browser.new_context(**({"viewport": WIDE} | options))
        self.stack.push_async_callback(context.close)
        if notify:
            await context.grant_permissions(["notifications"], origin=self.client.url)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        self.complaints.append(Complaints(page, self.client.url))
        if path:
            await page.goto(self.client.url + path)
        return page

    async def report(self, percent: float, **changes: Any) -> None:
        """Usage of openai / gpt-5 by alice, at a percentage of two million tokens."""
        body = {
            "provider": "openai",
            "model": "gpt-5",
            "userId": "alice",
            "tokensUsed": int(percent * 20_000),
            "tokenLimit": 2_000_000,
        }
        _ = (await self.client.update(snapshot(**body | changes))).data


@contextlib.asynccontextmanager
async def site(
    browser: Browser, folder: Path, dsn: str, trust: ssl.SSLContext | None = None, **sections: Any
) -> AsyncIterator[Site]:
    """A daemon with a database of its own. ``trust``: what its certificate is verified with."""
    config = configure(folder, dsn, **sections)
    async with contextlib.AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(running(config))
        connector = aiohttp.TCPConnector(ssl=trust or True)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        pages = await stack.enter_async_context(contextlib.AsyncExitStack())
        found = Site(Client(session, daemon.url), browser, [], pages)
        yield found
        assert [line for page in found.complaints for line in page.found] == []


def quota(page: Page, model: str = "gpt-5", user: str = "alice") -> Locator:
    return page.locator(f"[data-quota][data-model='{model}'][data-user='{user}']")


async def live(page: Page) -> None:
    """Wait until the page shows what is."""
    await expect(page.locator("#live")).to_have_attribute("data-live", "live")


async def order(page: Page) -> list[str]:
    """The models of the quotas, from top to bottom."""
    models: list[str] = await page.locator("[data-quota]").evaluate_all(
        "rows => rows.map((row) => row.dataset.model)"
    )
    return models
