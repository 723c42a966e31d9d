"""History, thresholds and sources, in Debian's Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.common import Site, quota, site
from tests.support.postgres import Database, connected
from tests.support.pushservice import PushService

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/api/token-monitor/thresholds"


@pytest_asyncio.fixture(loop_scope="module")
async def service() -> AsyncIterator[PushService]:
    async with PushService() as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def told(
    fresh_database: Database,
    tmp_path: Path,
    browser: Browser,
    service: PushService,
    brief_end: None,
) -> AsyncIterator[Site]:
    """A daemon with a subscriber."""
    trusted = {"trusted_origins": [service.origin]}
    async with site(browser, tmp_path, fresh_database.dsn, push=trusted) as told:
        key = (await told.client.get("/api/push/vapid-public-key")).json["publicKey"]
        body = {"subscription": service.subscribe(key).subscription, "applicationServerKey": key}
        assert (await told.client.post("/api/push/subscribe", json=body)).json["active"]
        yield told


async def test_the_history_shows_each_message_with_its_deliveries_and_attempts(
    told: Site, service: PushService
) -> None:
    page = await told.page("/#history")
    await expect(page.locator(".history .empty")).to_contain_text("Nothing was sent yet")

    await told.report(91)
    await service.wait(1)

    message = page.locator("[data-notification]")
    await expect(message).to_have_attribute("data-status", "sent")
    await expect(message.locator("summary")).to_contain_text("openai / gpt-5 is at 91 %")
    await message.locator("summary").click()
    await expect(message).to_contain_text("1.82 M of 2 M tokens by alice")
    await expect(message.locator(".delivery")).to_contain_text("webpush · sent")
    await expect(message.locator(".delivery li")).to_contain_text("sent 201")
    await expect(message).to_contain_text("1 delivery, 1 attempt")


async def test_a_message_is_sent_again_and_the_list_is_narrowed(
    told: Site, service: PushService
) -> None:
    await told.report(91)
    await service.wait(1)
    page = await told.page("/#history")
    messages = page.locator("[data-notification]")
    await messages.first.locator("summary").click()

    await page.get_by_role("button", name="Send again").click()

    await service.wait(2)
    await expect(messages).to_have_count(2)
    await page.get_by_label("Status").select_option("failed")
    await expect(messages).to_have_count(0)
    await page.get_by_label("Status").select_option("sent")
    await expect(messages).to_have_count(2)


async def test_thresholds_are_added_changed_paused_and_removed(here: Site) -> None:
    await here.report(64)
    page = await here.page("/#thresholds")
    rows = page.locator("[data-threshold]")
    await expect(page.locator("#thresholds .empty")).to_be_visible()

    await page.get_by_label("Provider", exact=True).fill("openai")
    await page.get_by_label("Percentage", exact=True).fill("60")
    await page.get_by_role("button", name="Add threshold").click()
    await expect(rows).to_contain_text("openai")
    (item,) = (await here.client.get(PATH)).json["items"]
    assert (item["provider"], item["userId"]) == ("openai", None)
    assert (item["thresholdPercentage"], item["isActive"]) == (60, True)

    await page.get_by_role("link", name="Quotas").click()
    await expect(quota(page)).to_have_attribute("data-ringing", "yes")
    await page.get_by_role("link", name="Thresholds").click()

    await page.get_by_label("Percentage of openai").fill("65.5")
    await page.get_by_label("Percentage of openai").press("Enter")
    await expect(page.locator("#thresholds [role=status]")).to_have_text("Changed.")
    await page.get_by_label("Active, openai").uncheck()
    await expect(page.locator("#thresholds [role=status]")).to_have_text("Paused.")
    (item,) = (await here.client.get(PATH)).json["items"]
    assert (item["thresholdPercentage"], item["isActive"]) == (65.5, False)

    await page.get_by_role("button", name="Remove 65.5").click()
    await expect(rows).to_have_count(0)
    assert (await here.client.get(PATH)).json["items"] == []


async def test_what_is_wrong_with_a_threshold_is_told(here: Site) -> None:
    await here.client.post(PATH, json={"provider": "openai", "thresholdPercentage": 60})
    page = await here.page("/#thresholds")

    await page.get_by_label("Provider", exact=True).fill("openai")
    await page.get_by_label("Percentage", exact=True).fill("60")
    await page.get_by_role("button", name="Add threshold").click()

    await expect(page.locator("#thresholds [role=status]")).to_contain_text("threshold")
    await expect(page.locator("[data-threshold]")).to_have_count(1)


async def test_sources_show_who_reports_and_what_was_refused(here: Site) -> None:
    page = await here.page("/#sources")
    await expect(page.locator("#sources .empty")).to_contain_text("Nobody has reported yet")

    await here.report(10)
    events = [{"provider": "openai", "model": "gpt-5", "inputTokens": 5}, {"provider": "openai"}]
    await here.client.post("/api/token-monitor/events", json=events)

    refused = page.locator("[data-source]:not([data-rejected='0'])")
    await expect(refused).to_have_count(1)
    await expect(refused).to_contain_text("model")


async def test_a_source_that_stopped_is_marked_listed_silenced_by_kind_and_acknowledged(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None
) -> None:
    name = "local/update"
    watched = {"stale_after": "365d"}
    async with site(browser, tmp_path, fresh_database.dsn, alerts=watched) as here:
        await here.report(10)
        page = await here.page("/#sources")
        row = page.locator(f"[data-source='{name}']")
        await expect(row).to_be_visible()
        stale = page.locator(f"[data-source='{name}'][data-stale]")
        await expect(stale).to_have_count(0)
        async with connected(fresh_database.dsn) as connection:
            await connection.execute(
                "insert into alerts (state_id, kind, subject, quota, provider, model, level, "
                "tokens_used, data) select quotabell_alert_subject_id('stale', name), 'stale', "
                "name, '', '', '', 0, 0, "
                "jsonb_build_object('lastEventAt', last_event_at, 'allowed', 1e9) from sources"
            )

        await expect(stale).to_contain_text("stopped reporting")
        await page.get_by_role("link", name="Quotas").click()
        alert = page.locator("[data-alert]")
        await expect(alert).to_contain_text(name)
        await expect(alert).to_contain_text("stopped reporting")
        await alert.get_by_label("Silence all stale sources").select_option("for 1 h")
        await page.get_by_role("dialog").get_by_role("button", name="Silence").click()
        await expect(page.locator(".silences")).to_contain_text("stale")
        (silence,) = (await here.client.get("/api/token-monitor/silences")).json["items"]
        assert silence["reason"] == "from the page"  # unless one is given
        matchers = {k: v for k, v in silence["matchers"].items() if v is not None}
        assert matchers == {"kind": "stale"}
        await page.get_by_role("button", name=f"Acknowledge {name}").click()
        await expect(page.locator("[data-alert][data-acknowledged]")).to_have_count(1)
