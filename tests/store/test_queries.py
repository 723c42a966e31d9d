"""Every named query is understood by the schema as migrated."""

from __future__ import annotations

import asyncpg
import pytest

from quotabell.store import queries
from tests.support.postgres import connected


@pytest.mark.parametrize("module", queries.modules())
async def test_every_named_query_can_be_prepared(module: str, any_dsn: str) -> None:
    refused = {}
    async with connected(any_dsn) as connection:
        for name, query in queries.load(module).items():
            try:
                await connection.prepare(query)
            except asyncpg.PostgresError as error:
                refused[name] = str(error)
    assert refused == {}
