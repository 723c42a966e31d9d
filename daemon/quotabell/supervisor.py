"""What systemd is told of the daemon that it started: sd_notify(3), over the socket it names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, MutableMapping
from time import CLOCK_MONOTONIC, clock_gettime_ns, monotonic

from quotabell.log import Logger

_SOCKET, _WATCHDOG, _WATCHED = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_PATIENCE = 1.0  # seconds for a socket whose reader is behind


class Supervisor:
    """Whoever started the daemon and wants to know how it is; nobody: all of this does nothing."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """``address`` of a Unix datagram socket, abstract with a leading @; ``watchdog``: seconds
        after which silence counts as death, 0: never."""
        self._address = address
        self._watchdog = watchdog if address else 0.0
        self._progress = monotonic()
        self._log: Logger | None = None

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Supervisor:
        """The one that the environment names. Its variables are taken out: what the daemon starts
        (the embedded Postgres speaks this protocol too) must not answer for it."""
        address = environ.pop(_SOCKET, "")
        limit, process = environ.pop(_WATCHDOG, ""), environ.pop(_WATCHED, "")
        watched = limit.isdecimal() and process in ("", str(os.getpid()))
        return cls(address, int(limit) / 1e6 if watched else 0.0)

    def logged(self, log: Logger) -> None:
        """Say in ``log`` what could not be told."""
        self._log = log

    def ready(self) -> None:
        """Requests are taken."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The daemon ends, and answers what has arrived before."""
        self._tell("STOPPING=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read anew; whatever comes of it, the daemon is ready afterwards."""
        now = clock_gettime_ns(CLOCK_MONOTONIC) // 1000  # Type=notify-reload compares it
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now}")
        try:
            yield
        finally:
            self._tell("READY=1")

    def progress(self) -> None:
        """A part of a round of evaluation has ended, well or not."""
        self._progress = monotonic()

    async def watch(self, pause: float) -> None:
        """Say that the daemon lives, for ever, while this loop runs and rounds make progress.

        ``pause`` is what lies between two rounds, in seconds. An outage of the database is
        progress: rounds then fail, each in its time.
        """
        if not self._watchdog:
            await asyncio.Event().wait()
        self.progress()
        while True:
            if monotonic() - self._progress < pause + self._watchdog / 2:
                self._tell("WATCHDOG=1")
            elif self._log is not None:
                self._log.error("rounds of evaluation stand still; the watchdog is not told")
            await asyncio.sleep(self._watchdog / 4)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_PATIENCE)
                sender.sendto(state.encode(), address)
        except OSError as error:
            if self._log is not None:
                self._log.warning("systemd is not told", state=state, reason=str(error))
