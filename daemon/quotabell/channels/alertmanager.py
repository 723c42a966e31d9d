"""Prometheus Alertmanager, API v2: alerts by their labels, posted again for as long as they fire.

An alert is known by its labels alone, so they name the quota state and the kind, never the
level. What is not posted again ends there by itself, four minutes after the last post.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from quotabell.channels.contract import Notification
from quotabell.channels.own import OwnReceivers
from quotabell.domain.outcome import Outcome

LASTS: Final = timedelta(minutes=4)  # beyond a post: two may fail before an alert ends
_TEST_LASTS: Final = timedelta(minutes=1)
_PATH: Final = "/api/v2/alerts"


@dataclass(frozen=True, slots=True)
class AlertmanagerTarget:
    """One replica: its address, below which the API lies."""

    url: str = field(repr=False)
    origin: str


class AlertmanagerChannel(OwnReceivers):
    """Sends a notification as its alert; ``post_all`` many at once.

    ``generator``: the address of this daemon, to which alerts lead back.
    """

    def __init__(self, generator: str, **options: Any) -> None:
        super().__init__(**options)
        self._generator = generator

    def origin(self, target: AlertmanagerTarget) -> str:
        return target.origin

    async def send(self, notification: Notification, target: AlertmanagerTarget) -> Outcome:
        return await self.post_all([notification], target)

    async def post_all(
        self, notifications: Iterable[Notification], target: AlertmanagerTarget
    ) -> Outcome:
        """Where some alerts are not understood the answer is 400, and the others count."""
        now = datetime.fromtimestamp(self.now, UTC)
        body = json.dumps([alert(n, now, self._generator) for n in notifications])
        url = target.url.rstrip("/")
        url += "" if url.endswith(_PATH) else _PATH
        return await self.post(url, body.encode(), {"Content-Type": "application/json"})


def alert(notification: Notification, now: datetime, generator: str) -> dict[str, Any]:
    """An alert of the API; Alertmanager takes one whose end is past for resolved."""
    labels = {
        "alertname": _NAMES.get(notification.kind, "QuotabellAlert"),
        "quota": notification.quota,
        "provider": notification.provider,
        "model": notification.model,
        "user": notification.user,
        "kind": notification.kind,
        # Names the alert of what has no quota.
        ("source" if notification.kind == "stale" else "channel"): notification.subject,
    }
    description = notification.text or notification.body
    annotations = {"summary": notification.title, "description": description}
    for name in ("threshold", "percentage"):
        if (value := getattr(notification, name)) is not None:
            annotations[name] = f"{value:.15g}"
    lasts = _TEST_LASTS if notification.state == "test" else LASTS
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": annotations,
        "startsAt": _rfc3339(notification.started_at or notification.at),
        "endsAt": _rfc3339(notification.ended_at or now + lasts),
        "generatorURL": generator + notification.url,
    }


_NAMES: Final = {
    "threshold": "QuotabellQuotaThreshold",
    "forecast": "QuotabellQuotaForecast",
    "stale": "QuotabellSourceStale",
    "channel": "QuotabellChannelFailing",
    "test": "QuotabellTest",
}


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
