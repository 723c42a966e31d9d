"""The certificate of new connections, replaced while the daemon runs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from quotabell.config.tls import Certificate, Tls
from quotabell.log import Logger
from quotabell.metrics import Metrics

CHECK_EVERY = 60.0  # seconds


class Certificates:
    """What ``tls`` names, as it last was right. Connections keep what they began with."""

    def __init__(self, tls: Tls, metrics: Metrics, log: Logger) -> None:
        """Raises ValueError if the files cannot be used."""
        self._tls = tls
        self._metrics = metrics
        self._log = log
        self._current = self._taken(tls.read())
        self._refused: str | None = None  # why, as last told
        self.context = self._current.context
        # Asked at each handshake, whether the client names a host or not.
        self.context.sni_callback = self._choose
        if tls.exposed:
            log.warning("everybody on this machine may read tls.key_file", file=str(tls.key_file))

    async def watch(self) -> None:
        """Look for other files, for ever: whoever renews them need not tell."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            with contextlib.suppress(ValueError):
                await asyncio.to_thread(self._look)

    def renew(self) -> None:
        """Take the files as they are; raises ValueError, and then keeps what there was."""
        try:
            found = self._tls.read()
        except ValueError as error:
            self._metrics.tls_reload_successful.set(0)
            if str(error) != self._refused:
                self._refused = str(error)
                self._log.error("certificate not reloaded", reason=f"tls.{error}")
            raise
        changed = found.state != self._current.state
        self._current, self._refused = self._taken(found), None
        if changed:
            self._log.info("certificate reloaded", expires=found.expires.isoformat())

    def _look(self) -> None:
        if self._refused is not None or self._tls.state() != self._current.state:
            self.renew()

    def _taken(self, found: Certificate) -> Certificate:
        self._metrics.tls_expiry.set(found.expires.timestamp())
        self._metrics.tls_reload_successful.set(1)
        return found

    def _choose(self, link: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        link.context = self._current.context
