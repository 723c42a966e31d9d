"""The bell in Debian's Firefox, over the real protocols from the report to the notification."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.browser.common import PATIENCE
from tests.http.client import Client, snapshot
from tests.support.autopush import Autopush
from tests.support.daemon import configure, running
from tests.support.firefox import Firefox
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATE = "return document.querySelector('#bell').dataset.state"
NOTICE = "return document.querySelector('#notice').textContent"
TEST = "return document.querySelector('#notice').dataset.test"
SUBSCRIPTION = """
    const worker = await navigator.serviceWorker.ready;
    const subscription = await worker.pushManager.getSubscription();
    return subscription && subscription.endpoint;
"""
SHOWN = """
    const worker = await navigator.serviceWorker.ready;
    const shown = await worker.getNotifications();
    return shown.map((n) => ({title: n.title, body: n.body, tag: n.tag}));
"""


@pytest_asyncio.fixture(loop_scope="module")
async def client(
    fresh_database: Database, push: Autopush, tmp_path: Path, fox: Firefox, brief_end: None
) -> AsyncIterator[Client]:
    """A client of a daemon whose origin may notify, and whose page is open."""
    config = configure(tmp_path, fresh_database.dsn, push={"trusted_origins": [push.origin]})
    async with running(config) as daemon, aiohttp.ClientSession() as session:
        await fox.permit(daemon.url)
        await fox.visit(daemon.url + "/")
        yield Client(session, daemon.url)
        await fox.visit("about:blank")


async def state(fox: Firefox, wanted: str) -> None:
    await eventually(lambda: _is(fox, STATE, wanted), PATIENCE)


async def _is(fox: Firefox, script: str, wanted: Any) -> bool:
    found = await fox.run(script)
    assert found == wanted, found
    return True


async def turn_on(fox: Firefox) -> str:
    """Press the button and see the test message arrive; the endpoint."""
    await state(fox, "off")
    await fox.press("#bell")
    await state(fox, "on")
    await eventually(lambda: _is(fox, TEST, "arrived"), PATIENCE)
    endpoint = await fox.run(SUBSCRIPTION)
    assert isinstance(endpoint, str)
    return endpoint


def report(percent: int) -> dict[str, Any]:
    return snapshot(
        provider="openai",
        model="gpt-5",
        userId="alice",
        tokensUsed=percent * 20_000,
        tokenLimit=2_000_000,
    )


async def rung(fox: Firefox) -> list[dict[str, str]]:
    """The notifications of quotas, without the test messages."""
    shown: list[dict[str, str]] = await fox.run(SHOWN)
    return [one for one in shown if one["title"] != "Quotabell"]


async def test_the_button_subscribes_and_shows_that_a_test_message_arrived(
    client: Client, fox: Firefox, push: Autopush
) -> None:
    endpoint = await turn_on(fox)

    assert endpoint in push.endpoints
    assert push.problems == []
    assert "arrived" in await fox.run(NOTICE)
    (stored,) = (await client.get("/api/push/subscriptions")).json["items"]
    assert stored["isActive"]
    assert stored["userId"] is None


async def test_usage_rings_a_second_alert_replaces_the_first_and_a_click_opens_the_quota(
    client: Client, fox: Firefox
) -> None:
    await turn_on(fox)
    await client.update(report(50))

    await client.update(report(80))
    (first,) = await eventually(lambda: rung(fox), PATIENCE)
    assert first["title"] == "openai / gpt-5 is at 80 %"
    assert first["body"] == "1.6 M of 2 M tokens by alice"

    await client.update(report(91))
    second = await eventually(lambda: _titles(fox, ["openai / gpt-5 is at 91 %"]), PATIENCE)
    assert second[0]["tag"] == first["tag"]

    window = await eventually(lambda: _window(fox, "openai / gpt-5 is at 91 %"), PATIENCE)
    assert window["text"] == "1.82 M of 2 M tokens by alice"
    await fox.click(window)
    usage = (await client.get("/api/token-monitor/usage")).json["items"]
    opened = "return [document.querySelector('#detail').dataset.id, location.search]"
    expected = [usage[0]["id"], f"?state={usage[0]['id']}"]
    await eventually(lambda: _is(fox, opened, expected), PATIENCE)


async def _titles(fox: Firefox, wanted: list[str]) -> list[dict[str, str]]:
    shown = await rung(fox)
    assert [one["title"] for one in shown] == wanted
    return shown


async def _window(fox: Firefox, title: str) -> dict[str, str] | None:
    return next((w for w in await fox.windows() if w["title"] == title), None)


async def test_a_click_opens_the_quota_where_no_page_is_open(client: Client, fox: Firefox) -> None:
    await turn_on(fox)
    await fox.visit("about:blank")

    await client.update(report(95))
    window = await eventually(lambda: _window(fox, "openai / gpt-5 is at 95 %"), PATIENCE)
    await fox.click(window)

    async def opened() -> str | None:
        tree = await fox.command("browsingContext.getTree")
        pages = [c for c in tree["contexts"] if c["url"].startswith(client.url)]
        return pages[0]["context"] if pages else None

    tab = await eventually(opened, PATIENCE)
    usage = (await client.get("/api/token-monitor/usage")).json["items"]
    script = "return document.querySelector('#detail').dataset.id"
    await eventually(lambda: _equals(fox.run(script, tab), usage[0]["id"]), PATIENCE)
    await fox.command("browsingContext.close", context=tab)


async def _equals(found: Any, wanted: Any) -> bool:
    value = await found
    assert value == wanted, value
    return True


async def test_a_subscription_that_the_service_dropped_heals_at_the_next_visit(
    client: Client, fox: Firefox, push: Autopush
) -> None:
    dead = await turn_on(fox)
    push.expire(dead)
    await client.update(report(91))

    async def ended() -> bool:
        (stored,) = (await client.get("/api/push/subscriptions")).json["items"]
        return not stored["isActive"] and stored["reason"].startswith("gone")

    await eventually(ended, PATIENCE)
    await fox.visit(client.url + "/")
    await state(fox, "on")
    alive = await eventually(lambda: _other(fox, dead), PATIENCE)
    assert alive in push.endpoints

    await client.update(report(101))
    await eventually(lambda: _titles(fox, ["openai / gpt-5 is at 101 %"]), PATIENCE)


async def _other(fox: Firefox, than: str) -> str | None:
    endpoint = await fox.run(SUBSCRIPTION)
    return endpoint if endpoint != than else None


async def test_a_subscription_that_the_browser_replaced_is_told_by_the_worker(
    client: Client, fox: Firefox, push: Autopush
) -> None:
    before = await turn_on(fox)
    await fox.visit("about:blank")  # no page to do it

    await push.reset()

    async def renewed() -> bool:
        stored = (await client.get("/api/push/subscriptions")).json["items"]
        return len(stored) == 2 and before not in push.endpoints and bool(push.endpoints)

    await eventually(renewed, PATIENCE)
    await client.update(report(92))
    await eventually(lambda: _window(fox, "openai / gpt-5 is at 92 %"), PATIENCE)


async def test_pressed_again_the_button_ends_the_subscription_on_both_sides(
    client: Client, fox: Firefox, push: Autopush
) -> None:
    endpoint = await turn_on(fox)

    await fox.press("#bell")
    await state(fox, "off")

    assert await fox.run(SUBSCRIPTION) is None
    (stored,) = (await client.get("/api/push/subscriptions")).json["items"]
    assert not stored["isActive"]
    await push.until(lambda: endpoint not in push.endpoints)
    await fox.visit(client.url + "/")
    await eventually(
        lambda: _is(fox, "return document.querySelector('#live').dataset.live", "live"), PATIENCE
    )
    assert await fox.run(SUBSCRIPTION) is None, "it stays off at the next visit"


async def test_a_blocked_permission_is_explained_and_taken_up_when_it_is_granted(
    client: Client, fox: Firefox
) -> None:
    await fox.permit(client.url, "denied")
    await fox.visit(client.url + "/")
    await state(fox, "blocked")

    await fox.press("#bell")
    await eventually(lambda: _is(fox, STATE, "blocked"), PATIENCE)
    assert "blocked" in await fox.run(NOTICE)

    await fox.permit(client.url, "granted")
    await state(fox, "off")
    await turn_on(fox)


async def test_with_a_users_token_the_bell_rings_for_that_user_only(
    fresh_database: Database, push: Autopush, tmp_path: Path, fox: Firefox, brief_end: None
) -> None:
    tokens = [
        {"name": "apps", "token": "token-of-the-apps", "scopes": ["ingest"]},
        {"name": "alice", "token": "token-of-alice-only", "scopes": ["read", "push"]}
        | {"user": "alice"},
    ]
    trusted = {"trusted_origins": [push.origin]}
    config = configure(tmp_path, fresh_database.dsn, push=trusted, auth={"tokens": tokens})
    async with running(config) as daemon, aiohttp.ClientSession() as session:
        client = Client(session, daemon.url)
        apps, alice = (client.with_token(str(one["token"])) for one in tokens)
        await fox.permit(daemon.url)
        await fox.visit(daemon.url + "/")
        asked = "return document.activeElement.name === 'token' && !!(document.activeElement.value"
        await eventually(lambda: fox.run(asked + " = 'token-of-alice-only')"), PATIENCE)
        await fox.press("#gate [type=submit]")

        await turn_on(fox)
        (stored,) = (await alice.get("/api/push/subscriptions")).json["items"]
        assert (stored["userId"], stored["isActive"]) == ("alice", True)

        await apps.update(report(91) | {"userId": "bob"})
        await apps.update(report(80))
        await eventually(lambda: _titles(fox, ["openai / gpt-5 is at 80 %"]), PATIENCE)
        await fox.visit("about:blank")
