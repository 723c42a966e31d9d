"""Webhooks as Standard Webhooks has them: signed, timed, and told apart by an id.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from dataclasses import dataclass, field
from typing import Any

from quotabell.channels.contract import Notification
from quotabell.channels.own import OwnReceivers
from quotabell.domain.outcome import Outcome


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where to POST to and what to sign with; each key makes a signature."""

    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    origin: str


class WebhookChannel(OwnReceivers):
    """Sends one request a notification.

    ``page``: the address of the page, to which messages lead.
    """

    def __init__(self, page: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._page = page

    def origin(self, target: WebhookTarget) -> str:
        return target.origin

    async def send(self, notification: Notification, target: WebhookTarget) -> Outcome:
        """The body and the id are the same for every try, the timestamp is the try's."""
        body = payload(notification, self._page)
        message, now = webhook_id(notification.id), str(int(self.now))
        signed = f"{message}.{now}.".encode() + body
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": now,
            "webhook-signature": " ".join(signature(key, signed) for key in target.keys),
        }
        return await self.post(target.url, body, headers)


def webhook_id(notification: str) -> str:
    """The message's id of a notification for one channel; without a dot, which parts what is
    signed."""
    return "msg_" + hashlib.sha256(notification.encode()).hexdigest()[:32]


def signature(key: bytes, signed: bytes) -> str:
    """A symmetric signature of version 1."""
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def payload(notification: Notification, page: str = "") -> bytes:
    """The body: what happened, when, and all that is known of it; links lead to ``page``."""
    state = notification.state
    details = notification.details() | {"url": page + notification.url}
    body = {
        "type": "test" if state == "test" else f"alert.{state}",
        "timestamp": notification.at.isoformat().replace("+00:00", "Z"),
        "data": {name: _clean(value) for name, value in details.items()},
    }
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _clean(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
