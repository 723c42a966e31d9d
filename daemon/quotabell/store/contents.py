"""What a database holds, in figures that can be compared with those of another."""

from __future__ import annotations

from typing import Any, NamedTuple

import asyncpg

from quotabell.errors import QuotabellError
from quotabell.store.migrate import TABLE
from quotabell.store.queries import load

_SQL = load("contents")
_WITHIN = 3_600.0  # seconds for one table


class NotQuotabell(QuotabellError):
    """There is no Quotabell in this database."""


class Sum(NamedTuple):
    """The rows of a table: how many, and the sum of their hashes, whatever their order."""

    rows: int
    hashes: int


async def sums(connection: Any) -> dict[str, Sum]:
    """Every table of the schema public with its partitions, as the transaction sees it."""
    await connection.execute("set local timezone = 'UTC'; set local datestyle = 'ISO'")
    found = {}
    for row in await connection.fetch(_SQL["tables"]):
        sum = await connection.fetchrow(
            f"select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) "
            f"from {row['name']} t",
            timeout=_WITHIN,
        )
        found[row["name"]] = Sum(sum[0], int(sum[1]))
    return found


def differences(before: dict[str, Sum], after: dict[str, Sum]) -> list[str]:
    """In words, what is not the same."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            found.append(f"{name}: is {'not in the backup' if new is None else 'new'}")
        elif old.rows != new.rows:
            found.append(f"{name}: {old.rows} rows, restored {new.rows}")
        elif old != new:
            found.append(f"{name}: {old.rows} rows, of which some differ")
    return found


async def what_is_there(connection: Any) -> list[str]:
    """What keeps a database from being empty, but for extensions."""
    return [row["name"] for row in await connection.fetch(_SQL["there"])]


async def schema_version(connection: Any) -> str:
    """The newest migration; raises NotQuotabell."""
    try:
        version = await connection.fetchval(f"select max(version) from public.{TABLE}")
    except asyncpg.UndefinedTableError:
        version = None
    if version is None:
        raise NotQuotabell("there is no Quotabell in this database: nothing to back up")
    return str(version)


async def server_major(connection: Any) -> int:
    return int(await connection.fetchval("show server_version_num")) // 10_000
