"""The bell in Debian's Chromium, which has no push service in reach: messages are handed to the
worker by the browser's own protocol, everything else is real."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.common import PATIENCE, Site, live, quota
from tests.support.chromium import WorkerPush
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SHOWN = """navigator.serviceWorker.ready
    .then((worker) => worker.getNotifications())
    .then((all) => all.map((n) => ({title: n.title, body: n.body, tag: n.tag, url: n.data.url})))"""
_NO_ANSWER = """PushManager.prototype.subscribe = () => {
    window.asked = true;
    return new Promise(() => {});
}"""
_NO_PUSH = "delete window.PushManager"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"
MESSAGE = {
    "title": "openai / gpt-5 is at 80 %",
    "body": "1.6 M of 2 M tokens by alice",
    "tag": "7d0b:threshold",
    "state": "firing",
    "kind": "threshold",
    "url": "/?state=7d0b",
}


async def state(page: Page, wanted: str) -> None:
    await expect(page.locator("#bell")).to_have_attribute("data-state", wanted)


async def ready(page: Page) -> WorkerPush:
    """Once the page's worker runs."""
    await live(page)
    push = await WorkerPush.open(page)
    await page.evaluate("navigator.serviceWorker.ready.then(() => 1)")
    return push


async def shown(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.evaluate(_SHOWN)
    return found


async def test_a_message_is_shown_a_newer_one_replaces_it_and_a_resolved_one_too(
    here: Site,
) -> None:
    page = await here.page(notify=True)
    push = await ready(page)

    await push.deliver(here.client.url, json.dumps(MESSAGE))
    (first,) = await eventually(lambda: shown(page), PATIENCE)
    assert first == {name: MESSAGE[name] for name in ("title", "body", "tag", "url")}

    newer = MESSAGE | {"title": "openai / gpt-5 is at 91 %"}
    resolved = MESSAGE | {"title": "openai / gpt-5 is back to 10 %", "state": "resolved"}
    await push.deliver(here.client.url, json.dumps(newer))
    await eventually(lambda: _only(page, newer["title"]), PATIENCE)
    await push.deliver(here.client.url, json.dumps(resolved))
    await eventually(lambda: _only(page, resolved["title"]), PATIENCE)


async def _only(page: Page, title: str) -> bool:
    return [one["title"] for one in await shown(page)] == [title]


async def test_the_short_form_of_a_message_leads_to_its_quota_and_rubbish_to_the_page(
    here: Site,
) -> None:
    page = await here.page(notify=True)
    push = await ready(page)

    await push.deliver(here.client.url, '{"title": "short", "tag": "7d0b:threshold"}')
    (short,) = await eventually(lambda: shown(page), PATIENCE)
    assert (short["title"], short["url"]) == ("short", "/?state=7d0b")

    for rubbish in ("", "no JSON", "null"):
        await push.deliver(here.client.url, rubbish)
    await eventually(lambda: _generic(page), PATIENCE)


async def _generic(page: Page) -> bool:
    return {(n["title"], n["url"]) for n in await shown(page)} == {
        ("short", "/?state=7d0b"),
        ("Quotabell", "/"),
    }


async def test_a_message_refreshes_the_page_at_once(here: Site) -> None:
    page = await here.page(notify=True)
    push = await ready(page)
    await page.clock.install()  # no timer runs any more
    await here.report(80)
    await expect(quota(page)).to_have_count(0)

    await push.deliver(here.client.url, json.dumps(MESSAGE))

    await expect(quota(page)).to_be_visible()


async def test_without_a_push_service_the_bell_says_so(here: Site) -> None:
    page = await here.page(notify=True)
    await live(page)

    await page.locator("#bell").click()

    await state(page, "error")
    await expect(page.locator("#notice")).to_contain_text("push service gave no answer")
    await expect(page.locator("#bell")).to_have_text("Try again")


async def test_a_browser_that_never_answers_is_not_waited_for(here: Site) -> None:
    page = await here.page("", notify=True)
    await page.clock.install()
    await page.add_init_script(_NO_ANSWER)
    await page.goto(here.client.url + "/")
    await live(page)

    await page.locator("#bell").click()
    await expect(page.locator("#notice")).to_contain_text("Subscribing this browser")
    await state(page, "asking")
    await eventually(lambda: page.evaluate("window.asked === true"), PATIENCE)
    await page.clock.run_for(20_000)

    await state(page, "error")
    await expect(page.locator("#notice")).to_contain_text("push service gave no answer")


async def test_a_refused_permission_is_explained(here: Site) -> None:
    page = await here.page()
    await live(page)

    await page.locator("#bell").click()  # headless, nobody is asked and the answer is no

    await state(page, "blocked")
    await expect(page.locator("#notice")).to_contain_text("Notifications are blocked")


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "This browser has no Web Push"), ({"user_agent": _IPHONE}, "Add to Home Screen")],
    ids=["browser", "iphone"],
)
async def test_a_browser_without_push_is_told_what_to_do(
    here: Site, options: Any, words: str
) -> None:
    page = await here.page("", **options)
    await page.add_init_script(_NO_PUSH)
    await page.goto(here.client.url + "/")
    await state(page, "unsupported")

    await page.locator("#bell").click()

    await expect(page.locator("#notice")).to_contain_text(words)
