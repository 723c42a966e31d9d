"""The quotas at a glance, in Debian's Chromium."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Locator, Page, expect

from quotabell.domain import figures
from tests.browser.common import PATIENCE, PHONE, Site, live, order, quota
from tests.support.bell import bell
from tests.support.forecasts import burning
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR = timedelta(hours=1)
SKEW = timedelta(seconds=PATIENCE)  # between what the page, the database and the test take as now


async def test_without_usage_the_page_says_how_to_report_some_and_then_shows_it(
    here: Site,
) -> None:
    page = await here.page()
    await live(page)
    await expect(page.locator(".empty")).to_contain_text("No usage yet")
    await expect(page.locator(".empty code")).to_contain_text(
        f"curl -X POST {here.client.url}/api/token-monitor/update"
    )

    await here.report(50)

    await expect(quota(page)).to_be_visible()
    await expect(page.locator(".empty")).to_have_count(0)


async def test_a_quota_shows_how_full_it_is_and_its_thresholds(here: Site) -> None:
    await here.report(91)
    page = await here.page()
    row = quota(page)

    await expect(row).to_have_attribute("data-percentage", "91")
    await expect(row).to_have_attribute("data-quota", "reported")
    await expect(row).to_have_attribute("data-provider", "openai")
    await expect(row.locator(".percentage")).to_have_text("91 %")
    await expect(row.locator(".amount")).to_have_text("1.82 M of 2 M")
    shape = await row.evaluate(
        "(row) => [row.querySelector('.fill').style.width,"
        " [...row.querySelectorAll('.ticks i')].map((tick) => tick.style.left)]"
    )
    assert shape == ["91%", ["75%", "90%"]]
    share = (
        "(row) => row.querySelector('.fill').getBoundingClientRect().width"
        " / row.querySelector('.bar').getBoundingClientRect().width"
    )
    await eventually(lambda: _about(row, share, 0.91), PATIENCE)


async def _about(row: Locator, script: str, wanted: float) -> bool:
    found: float = await row.evaluate(script)
    return abs(found - wanted) < 0.01


async def test_a_quota_shows_its_burn_when_it_runs_out_and_when_it_resets(
    here: Site, fresh_database: Database
) -> None:
    """60 tokens in 10 minutes leave 940 of 1,000 for 9,400 s; its period ends in three days."""
    async with bell(fresh_database.dsn) as it:
        await burning(it, limit=1_000, ends=3 * 24 * 60, model="gpt-5", user="alice")
    page = await here.page()
    row = quota(page)

    await expect(row.locator(".burn")).to_have_text("360/h")
    await expect(row.locator(".out")).to_have_text(re.compile("^2 h 3[567] min$"))
    await expect(row.locator(".reset")).to_have_text("3 d")
    label = await row.get_by_role("button").get_attribute("aria-label")
    assert label is not None
    assert re.search("60 of 1,000 tokens, runs out in 2 h 3[567] min, resets in 3 d$", label), label


AMOUNT = """async (numbers) => {
    const own = document.querySelector("link[rel=stylesheet]").href;
    const { amount } = await import(new URL("format.js", own));
    return numbers.map(amount);
}"""
AMOUNTS = [
    *(0, 99, 999, 1_000, 9_100, 9_999, 10_000, 12_599, 99_999, 999_999, 1_000_000, 1_829_999),
    *(1_999_999, 999_999_999, 2_500_000_000, 7_010_000_000_000, 3_000_000_000_000_000),
    *(1_999_999_999_999, 9_007_199_254_740_991),
]


async def test_the_page_writes_amounts_as_messages_do(here: Site) -> None:
    page = await here.page()

    assert await page.evaluate(AMOUNT, AMOUNTS) == [figures.amount(number) for number in AMOUNTS]


async def test_changes_show_without_reloading_and_the_worst_moves_to_the_top(here: Site) -> None:
    await here.report(40)
    await here.report(60, model="gpt-4")
    page = await here.page()
    await expect(page.locator("[data-quota]")).to_have_count(2)
    assert await order(page) == ["gpt-4", "gpt-5"]

    await here.report(70)

    await expect(quota(page)).to_have_attribute("data-percentage", "70")
    assert await order(page) == ["gpt-5", "gpt-4"]


async def test_an_unknown_limit_is_shown_as_one(here: Site) -> None:
    await here.report(40, tokenLimit=0)
    page = await here.page()

    await expect(quota(page)).to_have_attribute("data-percentage", "")
    await expect(quota(page).locator(".percentage")).to_have_text("–")
    await expect(quota(page).locator(".amount")).to_have_text("800 k")
    await expect(quota(page).locator(".ticks i")).to_have_count(0)


async def test_quotas_are_filtered_by_any_of_their_names_and_the_address_keeps_it(
    here: Site,
) -> None:
    await here.report(40)
    await here.report(50, model="gpt-4", userId="bob")
    await here.report(60, provider="grok", model="grok-3", userId="bob")
    page = await here.page()
    await expect(page.locator("[data-quota]")).to_have_count(3)

    await page.get_by_label("All users").select_option("bob")
    await expect(page.locator("[data-quota]")).to_have_count(2)
    await page.get_by_label("All providers").select_option("grok")
    assert await order(page) == ["grok-3"]
    await page.get_by_label("All providers").select_option("")
    await page.get_by_label("All models").select_option("gpt-4")
    assert await order(page) == ["gpt-4"]
    await expect(page).to_have_url(re.compile("model=gpt-4"))
    await page.get_by_label("All models").select_option("")
    await expect(page.locator("[data-quota]")).to_have_count(2)
    await page.get_by_label("Find quotas").fill("open bob")
    assert await order(page) == ["gpt-4"]
    await expect(page.locator(".count")).to_have_text("1 of 3")
    await expect(page).to_have_url(re.compile("open.bob"))  # a moment after the last key

    await page.reload()
    await expect(page.locator("[data-quota]")).to_have_count(1)
    await page.get_by_label("Find quotas").fill("nothing like it")
    await expect(page.locator(".empty")).to_contain_text("No quota fits")
    await page.get_by_role("button", name="Show all").click()
    await expect(page.locator("[data-quota]")).to_have_count(3)


async def test_the_panel_shows_the_worst_quota_and_then_the_one_that_is_chosen(here: Site) -> None:
    await here.report(40)
    await here.report(60, model="gpt-4")
    page = await here.page()
    panel = page.locator("#detail")
    await expect(panel.locator("h2")).to_have_text("openai / gpt-4")

    await quota(page).click()

    await expect(panel.locator("h2")).to_have_text("openai / gpt-5")
    await expect(panel).to_contain_text("800 k of 2 M tokens, 1.2 M left")
    await expect(panel.locator("svg .limit")).to_have_count(1)
    await expect(panel.locator("svg .threshold")).to_have_count(2)
    label = await panel.locator("svg").get_attribute("aria-label")
    assert label is not None
    assert "to 800 k now, of a limit of 2 M" in label
    await page.reload()
    await expect(panel.locator("h2")).to_have_text("openai / gpt-5")


async def test_the_list_and_the_chart_are_worked_by_keyboard(here: Site) -> None:
    await here.report(40)
    await here.report(60, model="gpt-4")
    page = await here.page(viewport=PHONE)
    await quota(page).wait_for()

    await page.locator("[data-quota] button[tabindex='0']").focus()
    await page.keyboard.press("ArrowDown")
    focused = "document.activeElement.closest('li')?.dataset.model"
    assert await page.evaluate(focused) == "gpt-5"
    await page.keyboard.press("Enter")
    panel = page.locator("#detail")
    await expect(panel.locator("h2")).to_be_focused()
    await panel.locator("svg").focus()
    await page.keyboard.press("End")
    await expect(panel.locator(".reading")).to_contain_text("800 k, 40 %")
    await page.keyboard.press("Escape")
    await expect(panel.locator(".reading")).to_have_text("")
    await page.keyboard.press("Escape")
    await expect(panel).to_be_hidden()
    assert await page.evaluate(focused) == "gpt-5"


async def test_what_rings_is_shown_and_can_be_acknowledged(here: Site) -> None:
    await here.report(50)
    page = await here.page()
    await expect(page.locator("#ringing")).to_contain_text("Nothing is ringing")

    await here.report(92)

    alert = page.locator("#ringing [data-alert]")
    await expect(alert).to_contain_text("92 %")
    await expect(page).to_have_title("(1) Quotabell")
    await expect(quota(page)).to_have_attribute("data-ringing", "yes")
    await page.get_by_role("button", name="Acknowledge openai / gpt-5").first.click()
    await expect(alert).to_contain_text("acked by local")
    await expect(quota(page)).to_have_attribute("data-ringing", "acknowledged")
    await expect(page).to_have_title("Quotabell")

    await here.report(10)
    await expect(alert).to_have_count(0)


async def test_a_forecast_says_when_it_runs_out(here: Site, fresh_database: Database) -> None:
    async with bell(fresh_database.dsn) as it:
        state = await burning(it, ends=600)
        # As after the hold, so that the next round of evaluation fires it.
        await it.execute(
            "insert into forecasts values ($1, now() - interval '1 hour')"
            " on conflict (state_id) do update set since = excluded.since",
            state,
        )
    page = await here.page()

    alert = page.locator("#ringing [data-alert]")
    await expect(alert).to_contain_text(re.compile(r"60 %.*runs out in \d+ min"))
    await alert.get_by_role("button", name="Acknowledge openai / gpt-5").click()
    await expect(alert).to_contain_text("acked by local")


async def test_what_rings_is_silenced_for_a_while_and_the_silence_ended(here: Site) -> None:
    await here.report(92, model="gpt-[5]*")
    page = await here.page()
    silences = "/api/token-monitor/silences"

    offered = page.get_by_label("Silence openai / gpt-[5]*").first
    await offered.select_option("for 8 h")
    await expect(page.get_by_role("dialog", name="for 8 h")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert (await here.client.get(silences)).json["items"] == []
    began = datetime.now(UTC)
    await offered.select_option("for 1 h")
    await expect(page.get_by_label("Reason")).to_be_focused()
    await page.keyboard.type(" the <new> model is tried out ")
    await page.keyboard.press("Enter")

    silence = page.locator(".silences li")
    await expect(silence).to_contain_text("for another 1 h: the <new> model is tried out (local)")
    (item,) = (await here.client.get(silences)).json["items"]
    starts, ends = (datetime.fromisoformat(item[name]) for name in ("startsAt", "endsAt"))
    assert began - SKEW < starts < datetime.now(UTC) + SKEW
    assert HOUR - SKEW < ends - starts < HOUR + SKEW
    assert (item["author"], item["reason"]) == ("local", "the <new> model is tried out")
    assert item["matchers"] == {
        "provider": "openai",
        "model": "gpt-[[]5][*]",
        "quota": "reported",
        "userId": "alice",
    }
    await silence.get_by_role("button", name="End").click()
    await expect(silence).to_have_count(0)


async def test_a_link_of_a_notification_opens_its_quota(here: Site) -> None:
    await here.report(40)
    await here.report(60, model="gpt-4")
    items = (await here.client.get("/api/token-monitor/usage")).json["items"]
    wanted = next(item for item in items if item["model"] == "gpt-5")

    page = await here.page(f"/?state={wanted['id']}", viewport=PHONE)

    await expect(page.locator("#detail h2")).to_have_text("openai / gpt-5")


async def test_the_order_stays_while_the_pointer_is_about_to_choose(here: Site) -> None:
    await here.report(40)
    await here.report(60, model="gpt-4")
    page = await here.page()
    await quota(page).hover()

    await here.report(70)

    await expect(quota(page)).to_have_attribute("data-percentage", "70")
    await eventually(lambda: _moved(page, ["gpt-5", "gpt-4"]), PATIENCE)


async def _moved(page: Page, wanted: list[str]) -> bool:
    return await order(page) == wanted
