"""Every request that was recorded from real clients, sent again, against a table of counts.

``captures/README.md`` is that table; ``captures/requests.tsv`` says how each was sent.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from quotabell.config import load
from tests.support.postgres import TEMPLATE, Cluster, Database, connected
from tests.support.receiving import Station, receiving

CAPTURES = Path(__file__).parent / "captures"
RECORDED = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)  # shortly after


class Request(NamedTuple):
    name: str
    path: str
    content_type: str
    encoding: str

    @property
    def case(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def headers(self) -> dict[str, str]:
        encoding = {"Content-Encoding": self.encoding} if self.encoding != "-" else {}
        return {"Content-Type": self.content_type, **encoding}


def requests() -> list[Request]:
    lines = (CAPTURES / "requests.tsv").read_text().splitlines()
    return [Request(*line.split("\t")) for line in lines]


def table() -> dict[str, str]:
    """What each case counts."""
    found: dict[str, str] = {}
    for line in (CAPTURES / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[a-z0-9-]+/\S+", cells[0]):
            found[cells[0]] = cells[1]
    return found


CASES = table()


@pytest.fixture(scope="module")
def database(postgres_18: Cluster) -> Iterator[Database]:
    made = postgres_18.create_database(TEMPLATE)
    yield made
    postgres_18.drop_database(made.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def station(database: Database) -> AsyncIterator[Station]:
    senders = [case.replace("/", ".") for case in {request.case for request in requests()}]
    async with receiving(load(None, {}), database, RECORDED, senders) as made:
        yield made


def test_every_capture_is_in_the_table_and_every_file_in_the_list() -> None:
    assert {request.case for request in requests()} == CASES.keys()
    files = {str(path.relative_to(CAPTURES))[:-4] for path in CAPTURES.rglob("*.bin")}
    assert files == {request.name for request in requests()}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", sorted({request.case for request in requests()}))
async def test_a_capture_counts_what_the_provider_said(
    case: str, station: Station, database: Database
) -> None:
    client = station.as_sender(case.replace("/", "."))
    statuses = []
    for _ in range(2):  # everything may come twice
        for request in [r for r in requests() if r.case == case]:
            body = (CAPTURES / f"{request.name}.bin").read_bytes()
            reply = await client.post(request.path, data=body, headers=request.headers)
            statuses.append(reply.status)
    counted = await _counted(database, case.replace("/", "."))

    if 422 in statuses:
        counted.append("refused")
    assert ("; ".join(counted) or "nothing") == CASES[case]
    assert set(statuses) <= {200, 204, 422}


async def _counted(database: Database, sender: str) -> list[str]:
    """What each model consumed, as the table has it."""
    async with connected(database.dsn) as connection:
        rows = await connection.fetch(
            """
            select provider, model, user_id, count(*) as calls, sum(input) as input,
                sum(cache_read) as read, sum(cache_write) as write, sum(output) as output,
                sum(reasoning) as reasoning, sum(other) as other
            from usage_events where source like $1 || '/%'
            group by provider, model, user_id order by provider, model, user_id
            """,
            sender,
        )
    return [_line(row) for row in rows]


def _line(row: object) -> str:
    value = dict(row)  # type: ignore[call-overload]
    kinds = " ".join(
        f"{name} {value[name]}"
        for name in ("input", "read", "write", "output", "reasoning", "other")
        if value[name]
    )
    user = f" of {value['user_id']}" if value["user_id"] else ""
    return f"{value['calls']} × {value['provider']} {value['model']}{user}: {kinds}"
