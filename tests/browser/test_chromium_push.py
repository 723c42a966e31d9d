"""The bell in Debian's Chromium, over the real protocols from the press to the notification."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from quotabell import delivering
from quotabell.channels.webpush import WebPushChannel
from tests.browser.common import PATIENCE
from tests.browser.conftest import program
from tests.browser.test_chromium_bell import shown, state
from tests.browser.test_firefox_bell import report
from tests.http.client import Client
from tests.support import chromium
from tests.support.daemon import configure, running
from tests.support.gcm import HOSTS, GoogleService
from tests.support.network import FakeResolver
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDPOINT = """navigator.serviceWorker.ready
    .then((worker) => worker.pushManager.getSubscription())
    .then((subscription) => subscription && subscription.endpoint)"""
# As if it were clicked: no protocol of the browser clicks on a notification without a screen.
CLICK = """async (title) => {
    const shown = await registration.getNotifications();
    const notification = shown.find((one) => one.title === title);
    dispatchEvent(new NotificationEvent("notificationclick", { notification }));
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def google() -> AsyncIterator[GoogleService]:
    async with GoogleService() as google:
        yield google


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def profile(
    google: GoogleService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BrowserContext]:
    folder = tmp_path_factory.mktemp("profile")
    found = program(chromium.PROGRAM)
    async with chromium.chromium_with_profile(found, folder, google.switches()) as profile:
        yield profile


@pytest_asyncio.fixture(loop_scope="module")
async def client(
    fresh_database: Database,
    google: GoogleService,
    tmp_path: Path,
    brief_end: None,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Client]:
    """A client of a daemon for which Google's hosts lie here."""
    resolver = FakeResolver([("127.0.0.1", google.sender_port)])
    led = partial(WebPushChannel, resolver=resolver, tls=google.trust)
    monkeypatch.setattr(delivering, "WebPushChannel", led)
    trusted = [f"https://{host}" for host in HOSTS]
    config = configure(tmp_path, fresh_database.dsn, push={"trusted_origins": trusted})
    async with running(config) as daemon, aiohttp.ClientSession() as session:
        yield Client(session, daemon.url)


@pytest_asyncio.fixture(loop_scope="module")
async def page(client: Client, profile: BrowserContext) -> AsyncIterator[Page]:
    """The daemon's page, with the bell turned on and its test message there."""
    await profile.grant_permissions(["notifications"], origin=client.url)
    page = await profile.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    await page.goto(client.url + "/")
    await state(page, "off")
    await page.locator("#bell").click()
    await state(page, "on")
    await expect(page.locator("#notice")).to_have_attribute("data-test", "arrived")
    yield page
    await page.close()


async def only(page: Page, title: str) -> str | None:
    """The text of the one notification about a quota, if it has this title."""
    rung = [one for one in await shown(page) if one["title"] != "Quotabell"]
    return rung[0]["body"] if [one["title"] for one in rung] == [title] else None


async def test_usage_rings_a_second_alert_replaces_the_first_and_a_click_opens_the_quota(
    client: Client, page: Page, google: GoogleService, profile: BrowserContext
) -> None:
    (stored,) = (await client.get("/api/push/subscriptions")).json["items"]
    assert stored["isActive"]
    assert await page.evaluate(ENDPOINT) in google.endpoints

    await client.update(report(80))
    body = await eventually(lambda: only(page, "openai / gpt-5 is at 80 %"), PATIENCE)
    assert body == "1.6 M of 2 M tokens by alice"
    await client.update(report(91))
    body = await eventually(lambda: only(page, "openai / gpt-5 is at 91 %"), PATIENCE)
    assert body == "1.82 M of 2 M tokens by alice"
    assert google.problems == []

    (usage,) = (await client.get("/api/token-monitor/usage")).json["items"]
    worker = next(one for one in profile.service_workers if one.url.startswith(client.url))
    await worker.evaluate(CLICK, "openai / gpt-5 is at 91 %")
    await page.wait_for_url(f"**/?state={usage['id']}")
    await expect(page.locator("#detail")).to_have_attribute("data-id", usage["id"])


async def test_what_the_service_dropped_is_dropped_here_and_the_page_heals_it(
    client: Client, page: Page, google: GoogleService
) -> None:
    dead = await page.evaluate(ENDPOINT)
    google.expire(dead)
    await client.update(report(80))

    async def ended() -> bool:
        (stored,) = (await client.get("/api/push/subscriptions")).json["items"]
        return not stored["isActive"] and stored["reason"].startswith("gone")

    await eventually(ended, PATIENCE)
    await page.reload()
    await state(page, "on")
    await eventually(lambda: _differs(page, dead), PATIENCE)
    assert await page.evaluate(ENDPOINT) in google.endpoints
    await client.update(report(91))
    await eventually(lambda: only(page, "openai / gpt-5 is at 91 %"), PATIENCE)


async def _differs(page: Page, dead: str) -> bool:
    return await page.evaluate(ENDPOINT) not in (None, dead)


async def test_pressed_again_the_button_ends_the_subscription_on_both_sides(
    client: Client, page: Page, google: GoogleService
) -> None:
    endpoint = await page.evaluate(ENDPOINT)

    await page.locator("#bell").click()

    await state(page, "off")
    assert await page.evaluate(ENDPOINT) is None
    await google.until(lambda: endpoint not in google.endpoints, PATIENCE)
    (stored,) = (await client.get("/api/push/subscriptions")).json["items"]
    assert not stored["isActive"]
