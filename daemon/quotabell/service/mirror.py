"""The configuration in force: mirrored to the database, where SQL functions read it."""

from __future__ import annotations

from quotabell.config import Config, fingerprint
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service.channels import row_of
from quotabell.service.counting import Counting
from quotabell.store.channels import ChannelStore
from quotabell.store.settings import SettingsStore


class Mirror:
    """The last start or reload of any replica decides; the others say that they differ."""

    def __init__(
        self,
        store: SettingsStore,
        counting: Counting,
        channels: ChannelStore,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._store = store
        self._channels = channels
        self._counting = counting
        self._metrics = metrics
        self._log = log
        self._own = ""

    async def put(self, config: Config) -> None:
        """Put this configuration in force; raises Unavailable.

        It returns at once: that states follow it is the work of the rounds of evaluation.
        """
        await self._counting.put(config.quotas)
        await self._channels.put([row_of(channel) for channel in config.channels])
        own = fingerprint(config)
        await self._store.mirror(
            own,
            config.thresholds.default,
            config.thresholds.hysteresis,
            config.alerts.min_interval,
            config.alerts.repeat_interval,
        )
        self._own = own
        self._metrics.config_in_sync.set(1)

    async def check(self) -> None:
        """Compare with what is in force; raises Unavailable."""
        same = await self._store.in_force() == self._own
        self._metrics.config_in_sync.set(same)
