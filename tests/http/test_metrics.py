"""``/metrics``: what is stored comes through to whoever scrapes, whatever its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from quotabell.domain import exposition
from quotabell.domain.events import Kinds
from quotabell.domain.folding import Folding
from quotabell.domain.usage import StoredState
from quotabell.log import configure
from quotabell.service.chunks import Chunk
from quotabell.service.exposition import UsageExposition
from quotabell.store.events import Total
from quotabell.store.levels import Firing
from quotabell.store.samples import Burning
from quotabell.store.sources import ListedSource
from tests.http.client import Client, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What a report may be named: anything but NUL and halves of surrogate pairs.
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
AWKWARD = ['"', "\\", "\n", '\\"', "\\n", "\\\\n", '"} 1\n', "a,b=c{}", "\r\n", "\u2028\x85", " ü "]


class State(NamedTuple):
    id: str
    quota: str
    provider: str
    model: str
    user_id: str
    tokens_used: int
    token_limit: int | None
    period_end: datetime | None
    unit: str = "tokens"


def _parsed(text: str) -> dict[str, dict[str, tuple[dict[str, str], float]]]:
    return {
        family.name: {s.labels["quota"]: (s.labels, s.value) for s in family.samples}
        for family in text_string_to_metric_families(text)
    }


def _put(columns: exposition.Columns, key: str, lines: exposition.Lines) -> None:
    for column, line in zip(columns, lines, strict=True):
        if line:
            column[key] = line


def _text(columns: exposition.Columns) -> str:
    families = zip(exposition.QUOTA_FAMILIES, map(list, map(dict.values, columns)), strict=True)
    return "".join(exposition.render(families, str))


def _joined(chunks: Iterable[Chunk]) -> str:
    return b"".join(chunk.text for chunk in chunks).decode()


@given(names, names, names, st.integers(0, 2**53), st.none() | st.integers(1, 2**53))
@example(*AWKWARD[:3], 1, None)
@example(*AWKWARD[3:6], 1, 1)
@example(*AWKWARD[6:9], 1, 1)
async def test_any_label_survives_the_text_format(
    provider: str, model: str, user: str, used: int, limit: int | None
):
    states = [
        State("1", "q1", provider, model, user, used, limit, None),
        State("2", "q2", user, provider, model, 7, 14, datetime(2026, 11, 22, 12, 30, tzinfo=UTC)),
    ]
    columns = exposition.columns(exposition.QUOTA_FAMILIES)
    for state in states:
        _put(columns, state.id, exposition.state_lines(state))
    found = _parsed(_text(columns))

    expected = {"quota": "q1", "provider": provider, "model": model, "user": user}
    assert found["quotabell_quota_used_tokens"]["q1"] == (expected, used)
    assert ("q1" in found["quotabell_quota_limit_tokens"]) == (limit is not None)
    if limit is not None:
        assert found["quotabell_quota_limit_tokens"]["q1"] == (expected, limit)
        assert found["quotabell_quota_used_ratio"]["q1"] == (expected, used / limit)
    assert found["quotabell_quota_used_ratio"]["q2"][1] == 0.5
    assert found["quotabell_quota_reset_timestamp_seconds"].keys() == {"q2"}
    assert found["quotabell_quota_reset_timestamp_seconds"]["q2"][1] == 1795350600.0


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("tokens", {"quotabell_quota_used_tokens": 30.0, "quotabell_quota_limit_tokens": 40.0}),
        (
            "requests",
            {"quotabell_quota_used_requests": 30.0, "quotabell_quota_limit_requests": 40.0},
        ),
        ("percent", {}),
    ],
)
async def test_no_family_shows_another_unit_than_its_name_says(
    unit: str, shown: dict[str, float]
) -> None:
    columns = exposition.columns(exposition.QUOTA_FAMILIES)
    _put(columns, "1", exposition.state_lines(State("1", "q", *"pmu", 30, 40, None, unit)))
    text = _text(columns)
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found == shown | {"quotabell_quota_used_ratio": 0.75}

    at = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    burning = Burning("1", "u", "q", "p", "m", 30, 40, None, 0.5, at, unit)
    burn, exhaustion = exposition.burn_lines(burning)
    assert bool(burn) == (unit == "tokens")
    assert exhaustion


@settings(max_examples=10)
@given(st.lists(names.filter(str.strip), min_size=1, max_size=20, unique=True))
@example(AWKWARD)
async def test_any_name_comes_through_from_the_report_to_the_scrape(
    client: Client, models: list[str]
):
    wanted = [m for m in models if m.strip()]
    reply = await client.update([snapshot(model=m, tokensUsed=len(m)) for m in wanted])
    assert [d["model"] for d in reply.data] == wanted

    shown = {
        s.labels["model"]: s.value
        for s in await client.samples("usage")
        if s.name == "quotabell_quota_used_tokens"
    }
    assert {m: shown[m] for m in wanted} == {m: len(m) for m in wanted}


async def test_a_scrape_shows_what_was_acknowledged_before_it(client: Client):
    for n in range(1, 20):
        await client.update(snapshot(model="shown", tokensUsed=n, tokenLimit=n if n % 2 else None))
        samples = {
            s.name: s.value for s in await client.samples() if s.labels.get("model") == "shown"
        }
        assert samples["quotabell_quota_used_tokens"] == n
        assert ("quotabell_quota_limit_tokens" in samples) == bool(n % 2)
        await asyncio.sleep(0.05)  # refreshes of the whole happen in between


class Burns:
    """Nothing burns."""

    async def burning(self) -> AsyncIterator[list[Burning]]:
        yield []


class Sources:
    """Nobody reports."""

    async def all(self) -> AsyncIterator[list[ListedSource]]:
        yield []


class Unbounded:
    """Every user has series."""

    folding = Folding()

    async def follow(self) -> None:
        pass

    def too_many(self, series: int) -> bool:
        return False


class Levels:
    """Nothing rings."""

    async def firing(self) -> AsyncIterator[list[Firing]]:
        yield []


async def test_a_commit_that_overtakes_a_refresh_is_not_undone_by_it():
    """The refresh has read the old row already when the new one is committed."""
    now = datetime.now(UTC)
    old = StoredState("1", "", "reported", "p", "m", 1, 10, 10.0, now, None, None, now)
    new = old._replace(tokens_used=2)

    sum_before = Total("", "p", "m", Kinds(1), 1, Decimal(0))
    sum_after = sum_before._replace(requests=2)

    class States:
        async def current(self) -> AsyncIterator[list[StoredState]]:
            yield [old]
            shown.states.patch([new])

    class Sums:
        async def totals(self) -> AsyncIterator[list[Total]]:
            yield [sum_before]
            shown.sums.patch([sum_after])

    shown = UsageExposition(
        *(States(), Sums(), Burns(), Sources(), Levels(), Unbounded()),  # type: ignore[arg-type]
        configure().get_logger(),
    )
    refreshing = asyncio.create_task(shown.run())
    text = _joined(await shown.render())
    refreshing.cancel()

    assert 'quotabell_quota_used_tokens{quota="reported",provider="p",model="m",user=""} 2' in text
    assert 'quotabell_requests_total{provider="p",model="m",user=""} 2' in text


async def test_zero_is_exposed(client: Client):
    await client.update(snapshot(model="zero", tokensUsed=0))
    values = [s.value for s in await client.samples("usage") if s.labels.get("model") == "zero"]

    assert sorted(values) == [0.0, 0.0, 10000.0]


async def test_what_others_wrote_appears_by_itself(client: Client, shared_database):
    async def shown() -> bool:
        return "psql" in {s.labels.get("provider") for s in await client.samples("usage")}

    async def gone() -> bool:
        return not await shown()

    assert await gone()
    await asyncio.to_thread(
        shared_database.cluster.execute,
        "insert into token_usage (provider, model, tokens_used) values ('psql', 'm', 5);",
        shared_database.name,
    )
    await eventually(shown, timeout=3)
    await asyncio.to_thread(
        shared_database.cluster.execute,
        "delete from token_usage where provider = 'psql'",
        shared_database.name,
    )
    await eventually(gone, timeout=3)


async def test_parts_are_what_was_asked_for(client: Client):
    await client.update(snapshot())

    def families(samples) -> set[bool]:
        usage = ("quotabell_quota_", "quotabell_alert_", "quotabell_source_")
        return {s.name.startswith(usage) for s in samples}

    assert families(await client.samples("usage")) == {True}
    assert families(await client.samples("health")) == {False}
    assert families(await client.samples("health", "usage")) == {True, False}
    assert families(await client.samples()) == {True, False}
    wrong = await client.get("/metrics?collect[]=everything&collect[]=usage&collect[]=more")
    assert wrong.fields(400) == {("collect[]", None)}
    assert len(wrong.json["errors"]) == 2


async def test_the_answer_is_compressed_only_for_who_reads_it(client: Client):
    packed = await client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept, Accept-Encoding"
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert packed.body.splitlines()[0] == plain.body.splitlines()[0]


async def test_a_commit_from_before_a_refresh_does_not_hide_what_another_replica_did_since():
    """Nobody has scraped between them."""
    before = Total("", "p", "m", Kinds(1), 1, Decimal(0))
    after = before._replace(requests=2)
    refreshed = asyncio.Event()

    class States:
        async def current(self) -> AsyncIterator[list[StoredState]]:
            refreshed.set()
            return
            yield []

    class Sums:
        async def totals(self) -> AsyncIterator[list[Total]]:
            yield [after]

    shown = UsageExposition(
        States(),  # type: ignore[arg-type]
        Sums(),  # type: ignore[arg-type]
        Burns(),  # type: ignore[arg-type]
        Sources(),  # type: ignore[arg-type]
        Levels(),  # type: ignore[arg-type]
        Unbounded(),  # type: ignore[arg-type]
        configure().get_logger(),
    )
    refreshing = asyncio.create_task(shown.run())
    await shown.render()
    shown.sums.patch([before])
    refreshed.clear()
    await refreshed.wait()
    text = _joined(await shown.render())
    refreshing.cancel()

    assert 'quotabell_requests_total{provider="p",model="m",user=""} 2' in text


async def test_what_fires_is_shown_at_its_level_until_it_ends(client: Client):
    async def levels() -> list[tuple[str, float]]:
        return [
            (s.labels["kind"], s.value)
            for s in await client.samples("usage")
            if s.name == "quotabell_alert_level_percent" and s.labels["model"] == "loud"
        ]

    async def shows(expected: list[tuple[str, float]]) -> bool:
        return await levels() == expected

    for used, level in ((9_100, 90.0), (12_000, 100.0)):
        await client.update(snapshot(model="loud", tokensUsed=used))
        await eventually(partial(shows, [("threshold", level)]))
    await client.update(snapshot(model="loud", tokensUsed=10))
    await eventually(partial(shows, []))
