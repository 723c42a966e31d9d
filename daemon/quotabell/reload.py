"""A changed configuration, taken into use while the daemon runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from quotabell.config import Config, fingerprint
from quotabell.errors import ConfigError, QuotabellError
from quotabell.formats.names import Signal
from quotabell.http.auth import Gate, gate_of
from quotabell.http.certificates import Certificates
from quotabell.http.receiving import Receivers
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service.channels import OperatorChannels
from quotabell.service.mirror import Mirror
from quotabell.service.reading import reading_of
from quotabell.service.stale import SourceWatch, watched_of
from quotabell.supervisor import Supervisor

_FIXED = (
    *(
        "listen",
        "external_url",
        "max_connections",
        "data_dir",
        "database",
        "ingest",
        "alerts",
        "push",
        "retention",
        "metrics",
        "log",
    ),
)


class Reloader:
    """Takes a changed configuration into use, or keeps the old one and says why."""

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config] | None,
        gate: Gate,
        mirror: Mirror,
        channels: OperatorChannels,
        receivers: Receivers,
        watch: SourceWatch,
        certificates: Certificates | None,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self.config = config
        self._reread = reread
        self._gate = gate
        self._mirror = mirror
        self._channels = channels
        self._receivers = receivers
        self._watch = watch
        self._certificates = certificates
        self._metrics = metrics
        self._log = log
        self._one_at_a_time = asyncio.Lock()

    async def watch(self, asked: asyncio.Event, supervisor: Supervisor) -> None:
        """Reload whenever ``asked`` is set, for ever, and say so to ``supervisor``."""
        while True:
            await asked.wait()
            asked.clear()
            with supervisor.reloading(), contextlib.suppress(QuotabellError):
                await self.reload()

    async def reload(self) -> None:
        """Raises ConfigError, Unavailable or Conflict; the configuration then stays as it was."""
        async with self._one_at_a_time:
            try:
                config = self._with_fixed_keys(self._reread() if self._reread else self.config)
                self._renew_certificate()
                await self._mirror.put(config)
            except QuotabellError as error:
                self._metrics.config_reload_successful.set(0)
                self._log.error("configuration not reloaded", reason=str(error))
                raise
            self._gate.replace(gate_of(config.auth))
            self._channels.replace(config.channels)
            self._receivers.current.reading = reading_of(config)
            self._receivers.signals.replace(overrides(config))
            self._watch.replace(watched_of(config))
            self.config = config
            self._metrics.config_reload_successful.set(1)
            self._log.info("configuration reloaded", fingerprint=fingerprint(config)[:12])

    def _renew_certificate(self) -> None:
        """Even if the configuration names other files: a restart takes those."""
        if self._certificates is not None:
            try:
                self._certificates.renew()
            except ValueError as error:
                raise ConfigError([f"tls.{error}"]) from None

    def _with_fixed_keys(self, config: Config) -> Config:
        """The new configuration with the old values of what a running daemon cannot change."""
        if not config.auth.asks and not self.config.listen.is_loopback:
            raise ConfigError(
                [
                    f"auth.tokens: must not be empty while the daemon listens on "
                    f"{self.config.listen}; restart it to listen on {config.listen}"
                ]
            )
        fixed = {key: getattr(self.config, key) for key in _FIXED}
        changed = [key for key, value in fixed.items() if getattr(config, key) != value]
        if changed:
            self._log.warning("these keys take effect at the next start", keys=changed)
        return config.model_copy(update=fixed)


def overrides(config: Config) -> dict[str, Signal]:
    """Signals that the operator chose, by patterns for sources."""
    return {chosen.source: chosen.signal for chosen in config.sources.signals}
