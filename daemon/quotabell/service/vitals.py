"""How the database is doing, for ``/metrics``: asked in the background, never by a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.store.database import Database
from quotabell.store.vitals import TableVitals, Vitals, VitalsStore

EVERY = 15.0  # seconds


class DatabaseVitals(Collector):
    """The families of the database's health. What is not known is absent."""

    def __init__(
        self, database: Database, metrics: Metrics, log: Logger, *, every: float = EVERY
    ) -> None:
        self._database = database
        self._store = VitalsStore(database)
        self._log = log
        self._every = every
        self._found: Vitals | None = None
        metrics.registry.register(self)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            try:
                self._found = await self._store.measure()
            except QuotabellError as error:
                if self._found is not None and self._database.up:
                    self._log.warning("database health is not known", reason=str(error))
                self._found = None
            await asyncio.sleep(self._every)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, of what was found last."""
        yield from self._pools()
        if self._found is not None and self._database.up:
            yield GaugeMetricFamily(
                "quotabell_database_oldest_transaction_seconds",
                "For how long the oldest transaction has been open, as far as it may be seen.",
                value=self._found.oldest_transaction,
            )
            yield from _tables(self._found.tables)

    def _pools(self) -> Iterator[GaugeMetricFamily]:
        connections = GaugeMetricFamily(
            "quotabell_database_pool_connections",
            "Connections of this replica by pool and whether they are in use.",
            labels=["pool", "state"],
        )
        limit = GaugeMetricFamily(
            "quotabell_database_pool_limit_connections",
            "Connections that a pool may have.",
            labels=["pool"],
        )
        for name, pool in (("ingest", self._database.ingest), ("other", self._database.pool)):
            idle = pool.get_idle_size()
            connections.add_metric([name, "idle"], idle)
            connections.add_metric([name, "used"], pool.get_size() - idle)
            limit.add_metric([name], pool.get_max_size())
        yield connections
        yield limit


def _tables(tables: tuple[TableVitals, ...]) -> Iterator[GaugeMetricFamily]:
    size, live, dead, parts, ends = (
        GaugeMetricFamily(f"quotabell_database_{name}", text, labels=["table"])
        for name, text in (
            ("table_bytes", "Size of a table with its indexes and partitions."),
            ("table_live_rows", "Rows of a table, as the statistics estimate."),
            ("table_dead_rows", "Rows of a table that vacuum has yet to remove, estimated."),
            ("table_partitions", "Partitions of a table that is kept in them."),
            ("table_partitions_end_timestamp_seconds", "Until when a table has partitions."),
        )
    )
    for table in tables:
        size.add_metric([table.name], table.bytes)
        live.add_metric([table.name], table.live_rows)
        dead.add_metric([table.name], table.dead_rows)
        if table.partitions is not None:
            parts.add_metric([table.name], table.partitions)
        if table.partitions_end is not None:
            ends.add_metric([table.name], table.partitions_end.timestamp())
    yield from (size, live, dead, parts, ends)
