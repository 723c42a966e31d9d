"""Rules and dashboards on a real Prometheus that scrapes real daemons."""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from quotabell.store.vitals import TABLES
from tests.deploy.files import DASHBOARDS, alerts, dashboard, expressions, names_in, panels, rules
from tests.deploy.grafana import interpolated, offered, resolved
from tests.deploy.promised import HEALTH, USAGE
from tests.deploy.rig import EVENTS, METRICS, TOKENS_AN_EVENT, Watched, for_one, watched
from tests.support.postgres import TEMPLATE, Cluster, connected
from tests.support.prometheus import Prometheus, configured
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOWN = 300  # seconds
USER = {"provider": ["grok"], "model": ["grok-3 (beta)"], "user": ["carol", "dave"]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(
    postgres_18: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    database = postgres_18.create_database(TEMPLATE)
    try:
        async with watched(tmp_path_factory.mktemp("watched"), database) as ready:
            yield ready
    finally:
        postgres_18.drop_database(database.name)


LABELS = ("quota", "provider", "model", "user", "kind", "table")


class Page:
    """A dashboard as Grafana would fill it."""

    def __init__(
        self, rig: Watched, name: str, choices: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._prometheus = rig.prometheus
        self._began = rig.began
        self.content = dashboard(name)
        self._chosen = interpolated(self.content, choices or {})

    def resolved(self, expression: str) -> str:
        return resolved(expression, self._chosen, scrape=1, step=1, shown=SHOWN)

    async def asked(self, target: Mapping[str, Any]) -> list[tuple[dict[str, str], list[float]]]:
        """The series that a query of a panel gives, with their values."""
        expression = self.resolved(target["expr"])
        if target["instant"]:
            return [(s, [v]) for s, v in await self._prometheus.query(expression)]
        return await self._prometheus.over_time(expression, self._began, time.time())

    async def numbers(self, title: str) -> list[dict[tuple[str, ...], float]]:
        """The last values of each query of the panel of this title, by the labels of `LABELS`."""
        (panel,) = [p for p in panels(self.content) if p["title"] == title]
        asked = [await self.asked(target) for target in panel["targets"]]
        return [
            {tuple(filter(None, map(labels.get, LABELS))): values[-1] for labels, values in one}
            for one in asked
        ]

    async def number(self, title: str) -> float | None:
        """What a panel of one number shows; None: nothing."""
        (found,) = await self.numbers(title)
        assert len(found) <= 1, found
        return next(iter(found.values()), None)


@pytest.mark.parametrize("name", DASHBOARDS)
async def test_every_query_of_every_panel_has_something_to_show(rig: Watched, name: str) -> None:
    page = Page(rig, name)
    empty = []
    for panel in panels(page.content):
        for target in panel["targets"]:
            values = [v for _, series in await page.asked(target) for v in series]
            if not any(map(math.isfinite, values)):
                empty.append((panel["title"], page.resolved(target["expr"])))

    assert empty == []


@pytest.mark.parametrize(
    ("title", "value"),
    [("Exhausted", 1), ("At 90 % or more", 2), ("Ringing", 2), ("Run out before they reset", 1)],
)
async def test_people_see_how_many_quotas_are_close(rig: Watched, title: str, value: float) -> None:
    assert await Page(rig, "quotas").number(title) == value


async def test_people_see_when_the_first_quota_runs_out_and_how_much_was_used(
    rig: Watched,
) -> None:
    page = Page(rig, "quotas")
    left = await page.number("First to run out")
    used = await page.number("Tokens")

    assert left is not None
    assert 3_000 / (7_000 / 600) - (time.time() - rig.began) - 30 < left < 3_000 / (7_000 / 600)
    assert used is not None
    fed = (EVENTS - 1) * TOKENS_AN_EVENT  # the first one is older than the first scrape
    assert fed * 0.9 <= used <= fed * 2  # Prometheus extrapolates


ALICE = ("daily", "openai", "gpt-5", "alice")
BLOCK = ("block", "*", "*")
BOB = ("reported", "grok", "grok-3 (beta)", "bob")
CAROL = ("reported", "grok", "grok-3 (beta)", "carol")


async def test_the_table_has_the_worst_quotas_with_all_that_is_known_of_them(
    rig: Watched,
) -> None:
    share, used, limit, burn, runs_out, resets = await Page(rig, "quotas").numbers("Worst quotas")

    assert share == {CAROL: 1.05, BOB: 0.95, BLOCK: 0.7, ALICE: 0.6}
    assert used == {CAROL: 10_500, BOB: 9_500, BLOCK: 7_000, ALICE: 60_000}
    assert limit == {CAROL: 10_000, BOB: 10_000, BLOCK: 10_000, ALICE: 100_000}
    assert burn[BLOCK] == pytest.approx(7_000 / 600)
    assert set(runs_out) == {BLOCK}
    assert set(resets) == {BLOCK, ALICE}
    for milliseconds in (*runs_out.values(), *resets.values()):  # as Grafana counts
        assert 0 < milliseconds / 1_000 - time.time() < 12 * 3600


async def test_people_see_how_long_each_period_lasts(rig: Watched) -> None:
    (left,) = await Page(rig, "quotas").numbers("Time to the reset")

    assert set(left) == {BLOCK, ALICE}
    assert 3_000 < left[BLOCK] < 3_600
    assert 11 * 3_600 < left[ALICE] < 12 * 3_600


async def test_what_rang_is_a_line_at_its_level_and_a_mark_in_every_chart(rig: Watched) -> None:
    page = Page(rig, "quotas")
    (levels,) = await page.numbers("What rang")
    (annotation,) = page.content["annotations"]["list"]
    marks = await rig.prometheus.over_time(
        page.resolved(annotation["expr"]), rig.began, time.time()
    )

    assert levels == {(*CAROL, "threshold"): 100, (*BOB, "threshold"): 90}
    assert len(marks) == 2
    for labels, values in marks:
        assert min(values) > 0  # Grafana marks what is above 0
        told = set(re.findall(r"{{(\w+)}}", annotation["titleFormat"] + annotation["textFormat"]))
        assert told | set(annotation["tagKeys"].split(",")) <= set(labels)


async def test_a_choice_shows_the_chosen_and_what_counts_for_all(rig: Watched) -> None:
    """Names are escaped, and of two users one may be unknown."""
    page = Page(rig, "quotas", USER)
    share, *_ = await page.numbers("Worst quotas")

    assert share == {CAROL: 1.05, BLOCK: 0.7}
    assert await page.number("Exhausted") == 1
    assert await page.number("At 90 % or more") == 1
    assert await page.number("Ringing") == 1
    assert await page.number("Tokens") is None


async def test_choices_offer_what_there_is(rig: Watched) -> None:
    found = {}
    for variable in dashboard("quotas")["templating"]["list"][1:]:
        query = Page(rig, "quotas").resolved(variable["query"]["query"])
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert asked is not None, query
        values = await rig.prometheus.ask(f"label/{asked[2]}/values", **{"match[]": asked[1]})
        found[variable["name"]] = offered(variable, values)

    assert found == {
        "provider": ["anthropic", "grok", "openai"],
        "model": ["claude-5", "gpt-5", "grok-3 (beta)"],
        "user": ["alice", "bob", "carol"],
    }


OPERATIONS = {
    "Replicas": 2,
    "Leaders": 1,
    "Database": 1,
    "Configuration in sync": 1,
    "Last reload worked": 1,
}


@pytest.mark.parametrize("title", OPERATIONS)
async def test_operators_see_how_the_daemons_are(rig: Watched, title: str) -> None:
    assert await Page(rig, "operations").number(title) == OPERATIONS[title]


@pytest.mark.parametrize("title", ["Deliveries failed", "Reports refused"])
async def test_operators_see_what_went_wrong(rig: Watched, title: str) -> None:
    number = await Page(rig, "operations").number(title)

    assert number is not None
    assert 0.9 <= number <= 2  # Prometheus extrapolates


async def test_operators_see_the_tables_of_the_database(rig: Watched) -> None:
    size, *_, parts, ends = await Page(rig, "operations").numbers("Tables")

    assert set(size) == {(table,) for table in TABLES}
    assert min(size.values()) > 0
    assert set(parts) == set(ends) == {("usage_events",), ("usage_periods",), ("usage_samples",)}
    assert parts[("usage_events",)] > 35  # days that are kept
    assert ends[("usage_events",)] / 1_000 - time.time() > 2 * 86_400  # what the alert asks for


async def test_every_metric_that_is_read_is_exported(rig: Watched) -> None:
    read = {name for rule in rules() for name in names_in(rule["expr"])}
    read |= {n for page in DASHBOARDS for e in expressions(dashboard(page)) for n in names_in(e)}

    exported: set[str] = set()
    for url in rig.daemons:
        for family in await _exported(url):
            exported |= {family.name} | {sample.name for sample in family.samples}

    assert len(read) > 30
    assert {name for name in read if ":" not in name} - exported == set()


async def _exported(url: str, *parts: str) -> list[Metric]:
    """The families of these parts, of all without; also those of which nothing is known yet."""
    headers = {"Authorization": f"Bearer {METRICS}"}
    asked = [("collect[]", part) for part in parts or ("usage", "health")]
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{url}/metrics", params=asked) as answer:
            return list(text_string_to_metric_families(await answer.text()))


@pytest.mark.parametrize(("part", "promised"), [("usage", USAGE), ("health", HEALTH)])
async def test_every_metric_of_the_contract_has_its_type_and_labels(
    rig: Watched, part: str, promised: dict[str, tuple[str, tuple[str, ...]]]
) -> None:
    for url in rig.daemons:
        found = {}
        for family in await _exported(url, part):
            name = family.name + "_total" * (family.type == "counter")
            labels = {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples}
            found[name] = (family.type, labels)

        expected = {n: (kind, {tuple(sorted(labels))}) for n, (kind, labels) in promised.items()}
        assert {name: found.get(name) for name in promised} == expected


async def test_operators_see_commits_and_the_pools_of_the_database(rig: Watched) -> None:
    """Both parts of the leader: it has committed all that was fed."""
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in await _exported(rig.daemons[0], "health")
        for sample in family.samples
    }
    commits = found[("quotabell_ingest_commit_seconds_count",)]
    reports = found[("quotabell_ingest_batch_events_sum",)]

    assert reports >= EVENTS - 1 + 2  # the first event was another process's, and two snapshots
    assert 0 < commits <= reports
    assert 0 < found[("quotabell_ingest_commit_seconds_sum",)] < time.time() - rig.began
    pool = "quotabell_database_pool"
    for name in ("ingest", "other"):
        limit = found[(f"{pool}_limit_connections", name)]
        there = [found[(f"{pool}_connections", name, state)] for state in ("idle", "used")]
        assert min(there) >= 0
        assert 1 <= sum(there) <= limit


async def test_the_configuration_for_one_daemon_gives_prometheus_all_of_it(rig: Watched) -> None:
    async with configured(rig.folder / "one", for_one(rig)) as prometheus:
        (target,) = await eventually(lambda: _all_up(prometheus), timeout=40, every=0.1)
        assert target["labels"]["job"] == "quotabell"
        rules = list(_loaded((await prometheus.ask("rules"))["groups"]))
        shown = "count by (__name__) ({job='quotabell', __name__=~'quotabell_.*'})"
        names = {labels["__name__"] for labels, _ in await prometheus.query(shown)}

    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} == set(alerts())
    promised = {name for name, (kind, _) in (USAGE | HEALTH).items() if kind != "histogram"}
    assert promised - names == set()


async def _all_up(prometheus: Prometheus) -> list[dict[str, Any]]:
    """The targets, once each was scraped."""
    targets: list[dict[str, Any]] = (await prometheus.ask("targets"))["activeTargets"]
    return targets if {target["health"] for target in targets} == {"up"} else []


OVERDUE = """
    with told as (
        insert into notification_history (title, body, enqueued_at) values ('t', 'b', now())
        returning id)
    insert into deliveries (notification_id, channel, target, origin, expires_at, due)
    select id, 'webhook', 'nobody', '', now() + interval '1 hour', now() + interval '2 seconds'
    from told returning id, notification_id, extract(epoch from due)::float8 as due
"""


async def test_operators_see_for_how_long_a_delivery_has_been_due(rig: Watched) -> None:
    page = Page(rig, "operations")

    async def late() -> float | None:
        number = await page.number("Oldest delivery due")
        return number if number and number > 1 else None

    assert await page.number("Oldest delivery due") == 0
    async with connected(rig.database.dsn) as connection:
        row = await connection.fetchrow(OVERDUE)
        assert row is not None
        async with connection.transaction():  # as long as it is locked, nobody claims it
            await connection.fetch("select from deliveries where id = $1 for update", row["id"])
            shown = await eventually(late, timeout=40, every=0.1)
            by_now = time.time() - row["due"]
            await connection.execute("delete from deliveries where id = $1", row["id"])
        await connection.execute(
            "delete from notification_history where id = $1", row["notification_id"]
        )

    assert 1 < shown <= by_now


async def test_prometheus_evaluates_every_rule_and_only_what_is_wrong_fires(rig: Watched) -> None:
    found = await rig.prometheus.ask("rules")
    loaded = list(_loaded(found["groups"]))

    assert [(rule["name"], rule["lastError"]) for rule in loaded if "lastError" in rule] == []
    assert {rule["health"] for rule in loaded} == {"ok"}
    assert {rule["name"] for rule in loaded if rule["type"] == "alerting"} == set(alerts())
    active = {r["name"]: r["state"] for r in loaded if r.get("state", "inactive") != "inactive"}
    assert active.keys() == {
        "QuotabellQuotaExhausted",
        "QuotabellQuotaHigh",
        "QuotabellQuotaRunsOut",
        "QuotabellDeliveriesFailing",
    }
    assert active["QuotabellQuotaExhausted"] == active["QuotabellQuotaHigh"] == "firing"


def _loaded(groups: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for group in groups:
        yield from group["rules"]


async def test_an_alert_arrives_at_alertmanager_with_what_people_need(rig: Watched) -> None:
    async def arrived() -> list[dict[str, Any]]:
        return [
            alert
            for alert in await rig.alertmanager.alerts()
            if alert["labels"]["alertname"] == "QuotabellQuotaExhausted"
        ]

    (alert,) = await eventually(arrived, timeout=15)

    assert alert["labels"] == {
        "alertname": "QuotabellQuotaExhausted",
        "job": "quotabell-usage",
        "severity": "critical",
        "quota": "reported",
        "provider": "grok",
        "model": "grok-3 (beta)",
        "user": "carol",
    }
    assert alert["annotations"]["summary"] == "Quota reported of carol is exhausted: 105% used"
    assert alert["annotations"]["runbook_url"] == "deploy/README.md#quotabellquotaexhausted"
