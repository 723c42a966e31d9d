"""What nobody reports any more is forgotten, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from quotabell import log
from quotabell.service.series import Idle
from quotabell.store.database import Database
from quotabell.store.series import SeriesStore
from quotabell.store.signals import SignalStore
from tests.support.postgres import TEMPLATE, Cluster, connected
from tests.support.postgres import Database as Made


@pytest.fixture
def own_database(postgres_18: Cluster) -> Iterator[Made]:
    database = postgres_18.create_database(TEMPLATE)
    yield database
    postgres_18.drop_database(database.name)


async def test_idle_marks_and_signals_are_forgotten(own_database: Made) -> None:
    async with connected(own_database.dsn) as connection:
        await connection.execute(
            """
            insert into series_marks (
                source, series_key, start_time, last_value, last_time, updated_at)
            select 's', n::text, now(), 1, now(), now() - n * interval '1 day'
            from generate_series(0, 4) as n;
            insert into source_signals (source, signal, rank, seen_at)
            select n::text, 'traces', 1, now() - n * interval '10 days'
            from generate_series(0, 4) as n;
            """
        )
        store = Database(
            own_database.dsn,
            pool_size=2,
            prepared_statements=True,
            log=log.configure("warning", "logfmt").get_logger(),
        )
        await store.open()
        try:
            await Idle(SeriesStore(store), SignalStore(store)).forget()
            assert await SeriesStore(store).forget(timedelta(days=1), at_most=0) == 0
        finally:
            await store.close()
        marks = await connection.fetch("select series_key from series_marks order by 1")
        signals = await connection.fetch("select source from source_signals order by 1")

    assert [row[0] for row in marks] == ["0", "1"]
    assert [row[0] for row in signals] == ["0", "1", "2", "3"]
