"""Apprise: a library that speaks to some hundred services, as an extra.

It blocks, so it has threads of its own. What it logs and what its services answer may quote
URLs, which hold secrets: nothing of it is passed on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

from quotabell.channels.contract import Notification
from quotabell.channels.guarded import TOTAL
from quotabell.domain.outcome import Fault, Outcome, unreachable

_THREADS: Final = 4
_REMEMBERED: Final = 64  # services made from URLs
_TYPES: Final = {"firing": "warning", "resolved": "success", "test": "info"}


@dataclass(frozen=True, slots=True)
class AppriseTarget:
    """An Apprise URL of the operator's."""

    url: str = field(repr=False)
    origin: str


class AppriseChannel:
    """Sends title and body in plain text. Whoever makes it needs the extra installed."""

    def __init__(self) -> None:
        self._service = lru_cache(_REMEMBERED)(_service)
        self._threads: concurrent.futures.ThreadPoolExecutor

    async def __aenter__(self) -> Self:
        self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "apprise")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        # A send that hangs ends by its own time limits; nobody waits for it.
        self._threads.shutdown(wait=False, cancel_futures=True)

    def origin(self, target: AppriseTarget) -> str:
        return target.origin

    async def send(self, notification: Notification, target: AppriseTarget) -> Outcome:
        """A try that is cut off while it waits for a thread is never made."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TOTAL):
                sent = await loop.run_in_executor(self._threads, self._tell, notification, target)
        except TimeoutError:
            return unreachable(Fault.TIMEOUT)
        if sent is None:
            return Outcome("failed", reason="bad_url")
        return Outcome("sent", reason="sent") if sent else Outcome("retry", reason="not_accepted")

    def _tell(self, notification: Notification, target: AppriseTarget) -> bool | None:
        """Whether it was accepted; None: the URL leads nowhere."""
        service = self._service(target.url)
        if service is None:
            return None
        try:
            return bool(
                service.notify(
                    body=notification.text or notification.body or notification.title,
                    title=notification.title,
                    notify_type=_TYPES[notification.state],
                    body_format="text",
                )
            )
        except Exception:  # of any of its plugins; its text may hold secrets
            return False


def _service(url: str) -> Any:
    import apprise  # an extra

    asset = apprise.AppriseAsset(
        app_id="Quotabell",
        app_desc="Quotabell",
        plugin_paths=[],
        storage_mode="memory",
        secure_logging=True,
    )
    service = apprise.Apprise(asset=asset)
    return service if service.add(url) else None
