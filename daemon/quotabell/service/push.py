"""Web Push as a sender of claimed deliveries, and the keys it signs with."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from quotabell.channels.contract import Notification
from quotabell.channels.vapid import Keyring, VapidKey, VapidSigner
from quotabell.channels.webpush import PushTarget, WebPushChannel
from quotabell.domain.outcome import Outcome
from quotabell.errors import QuotabellError
from quotabell.store.delivery import Claimed
from quotabell.store.push import PushStore


class KeyMissing(QuotabellError):
    """A VAPID key is in force whose private part is not here."""


async def keyring(
    store: PushStore, data_dir: Path, key_files: Sequence[Path], subject: str
) -> Keyring:
    """The signers of this daemon's keys, newest first.

    Raises KeyMissing if a key that is in force is not among them: another replica gives it to
    browsers, or some are subscribed with it.
    """
    keys = [VapidKey.load(path) for path in key_files] or [VapidKey.load_or_create(data_dir)]
    ring = Keyring([VapidSigner(key, subject) for key in keys])
    if missing := await store.adopt_keys([(key.id, key.public) for key in keys]):
        raise KeyMissing(
            f"the VAPID keys {', '.join(sorted(missing))} are in force, whose private parts are "
            "not here; name their files in push.key_files, newest first, as every replica does"
        )
    return ring


def topic_key(key: VapidKey) -> bytes:
    """What topics are keyed with: the same on every replica, since they share the VAPID key."""
    raw = key.private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return sha256(b"quotabell topic" + raw).digest()


class WebPushSender:
    """Finds the subscription of a claimed delivery and hands it to the channel."""

    def __init__(self, channel: WebPushChannel) -> None:
        self._channel = channel

    async def send(self, notification: Notification, claimed: Claimed) -> Outcome:
        stored = claimed.subscription
        if stored is None or not stored.is_active:
            return Outcome("failed", reason="not_subscribed")
        if stored.endpoint is None or stored.p256dh is None or stored.auth is None:
            return Outcome("failed", reason="bad_subscription")
        target = PushTarget(stored.endpoint, stored.p256dh, stored.auth, stored.vapid_key_id or "")
        return await self._channel.send(notification, target)
