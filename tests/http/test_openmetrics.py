"""Both formats of ``/metrics`` say the same to the parsers of prometheus_client."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from quotabell.domain import exposition
from quotabell.domain.events import KINDS, Kinds
from quotabell.domain.folding import BANDS, Folding, Sum
from quotabell.service.chunks import Chunk, gzipped
from quotabell.service.exposition import alert_name, source_table, state_name
from quotabell.service.tables import QuotaTable, StateTable, SumTable
from quotabell.store.levels import Firing
from quotabell.store.samples import Burning
from tests.http.client import Client, snapshot
from tests.http.test_negotiation import PROMETHEUS_3
from tests.support.prometheus import check_metrics

pytestmark = pytest.mark.asyncio(loop_scope="module")

hostile = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
AWKWARD = (
    '"',
    "\\",
    "\n",
    '\\"',
    "\\n",
    '"} 1\n',
    "a,b=c{}",
    "\r\n",
    "\u2028\x85",
    "# EOF",
    "other",
)
counts = st.integers(0, 2**53)
foldings = st.sampled_from([Folding(), Folding(per_user=False), Folding(named=frozenset(["\n"]))])
Samples = set[tuple[str, frozenset[tuple[str, str]], float]]


def _samples(families: Iterable[Any]) -> Samples:
    found = [(s.name, frozenset(s.labels.items()), s.value) for f in families for s in f.samples]
    assert len({sample[:2] for sample in found}) == len(found), "a series comes twice"
    return set(found)


def _both(content: list[Any]) -> Samples:
    """What both parsers read, alike."""
    chunks = list(exposition.render(content, Chunk))
    plain = b"".join(chunk.text for chunk in chunks).decode()
    assert gzip.decompress(gzipped(chunks)).decode() == plain
    in_strict = exposition.render(content, Chunk, openmetrics=True)
    strict = "".join(chunk.text.decode() for chunk in in_strict) + "# EOF\n"
    found = _samples(text_string_to_metric_families(plain))
    assert _samples(openmetrics_families(strict)) == found
    return found


@settings(max_examples=40)
@given(
    st.lists(st.tuples(hostile, hostile, hostile, counts, counts | st.none()), max_size=6), foldings
)
@example([(name, name, name, 1, 2) for name in AWKWARD], Folding())
@example([(name, name, name, 1, 2) for name in AWKWARD], Folding(named=frozenset(AWKWARD[:3])))
@example([(name, "m", name, 1, None) for name in AWKWARD], Folding(per_user=False))
async def test_whatever_its_names_both_parsers_read_the_same(
    rows: list[tuple[str, str, str, int, int | None]], folding: Folding
) -> None:
    now = datetime(2026, 11, 22, 12, 30, 0, 250_000, tzinfo=UTC)
    states, sums = StateTable(state_name, folding), SumTable(folding)
    burns = QuotaTable(exposition.BURN_FAMILIES, state_name, exposition.burn_lines, folding)
    alerts = QuotaTable(exposition.ALERT_FAMILIES, alert_name, exposition.alert_lines, folding)
    sources = source_table()
    wanted: dict[tuple[str, ...], Any] = {}
    counted: dict[tuple[str, ...], int] = {}  # what sums are of never falls
    for provider, model, user, used, limit in rows:
        end = now + timedelta(days=1)
        row = Burning("id", user, "q", provider, model, used, limit, end, used / 3, now)
        wanted[state_name(row)] = row
        states.put(row)
        burns.put(row)
        alerts.put(Firing(user, "q", provider, model, "threshold", 75.5))
        sum_of = (user, provider, model)
        counted[sum_of] = total = max(used, counted.get(sum_of, 0))
        sums.put(Sum(*sum_of, Kinds(total, other=1), total, Decimal(total) / 7))
        sources.show((user,), exposition.source_lines(user, now))

    tables = (states, burns, alerts, sums, sources)
    found = _both([family for table in tables for family in table.content()])

    shown = [row for row in wanted.values() if folding.shows(row.user_id)]
    used = [(labels, value) for name, labels, value in found if name.endswith("used_tokens")]
    assert len(used) == len(shown)
    for row in shown:
        labels = {"quota": "q", "provider": row.provider, "model": row.model}
        labels |= {"user": row.user_id} if folding.per_user else {}
        assert (frozenset(labels.items()), row.tokens_used) in used
    bands = [value for name, _, value in found if name == "quotabell_quota_subjects"]
    assert sum(bands) == sum(bool(row.token_limit) for row in wanted.values())
    assert len(bands) == (len(BANDS) if wanted else 0)
    assert sum(v for name, _, v in found if name == "quotabell_requests_total") == pytest.approx(
        sum(counted.values())
    )
    series = sum(table.series for table in tables)
    assert series == len(found)
    assert len(KINDS) * len(found) >= series


async def test_openmetrics_is_given_to_who_asks_for_it(client: Client) -> None:
    call = {"provider": "p", "model": "m", "inputTokens": 5, "costUsd": 0.25}
    call["time"] = datetime.now(UTC).isoformat()
    assert (await client.post("/api/token-monitor/events", json=[call])).status == 200
    await client.update(snapshot(userId="eve"))
    asked = {"Accept": PROMETHEUS_3}
    for parts in (["usage"], ["health"], ["usage", "health"], []):
        query = [("collect[]", part) for part in parts]
        strict = await client.get("/metrics", params=query, headers=asked)
        plain = await client.get("/metrics", params=query)
        kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert strict.headers["Content-Type"] == kind
        assert strict.body.endswith(b"\n# EOF\n")
        assert strict.body.count(b"# EOF") == 1
        assert b"_created" not in strict.body + plain.body
        assert b"# EOF" not in plain.body
        names = {s[:2] for s in _samples(openmetrics_families(strict.body.decode()))}
        assert names == {
            s[:2] for s in _samples(text_string_to_metric_families(plain.body.decode()))
        }
        assert check_metrics(plain.body) == ""


async def test_scrapes_at_once_get_one_body_each_in_its_own_form(client: Client) -> None:
    await client.update([snapshot(model=f"many-{n}") for n in range(50)])
    forms = [
        {"Accept": accept, "Accept-Encoding": encoding}
        for accept in ("text/plain", PROMETHEUS_3)
        for encoding in ("gzip", "identity")
    ]

    async def scrape(headers: dict[str, str]) -> bytes:
        url = f"{client.url}/metrics?collect[]=usage"
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            async with session.get(url, headers=headers) as answer:
                assert (answer.headers.get("Content-Encoding") == "gzip") == (
                    headers["Accept-Encoding"] == "gzip"
                )
                body = await answer.read()
        return gzip.decompress(body) if headers["Accept-Encoding"] == "gzip" else body

    bodies = await asyncio.gather(*map(scrape, forms * 5))
    for place, headers in enumerate(forms * 5):
        assert bodies[place] == bodies[place % 4]
        assert bodies[place].endswith(b"# EOF\n") == (headers["Accept"] == PROMETHEUS_3)
        assert bodies[place].count(b'model="many-') == 3 * 50
