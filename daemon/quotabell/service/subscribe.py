"""Subscribing browsers: what can be delivered is active, what never can is kept and said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from quotabell.channels.vapid import Keyring
from quotabell.domain.endpoints import EndpointRules, NoSubscription, Undeliverable
from quotabell.errors import FieldError, QuotabellError, Rejected
from quotabell.store.push import PushStore


class SubscriptionTaken(QuotabellError):
    """This endpoint is subscribed with another auth secret."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A stored subscription; ``reason`` says why it is not active."""

    id: UUID
    user: str
    active: bool
    reason: str | None


class Subscriptions:
    """The subscriptions made with the keys of this daemon."""

    def __init__(self, store: PushStore, rules: EndpointRules, keys: Keyring) -> None:
        self._store = store
        self._rules = rules
        self._newest_key = keys.newest.key.id
        self._id_of_key = keys.id_of_public

    async def add(self, user: str, subscription: Any, public_key: str | None) -> Subscribed:
        """Store a browser's subscription.

        ``public_key``: the applicationServerKey that it was made with, if the browser said so.
        Raises Rejected for what is no subscription, SubscriptionTaken, Unavailable.
        """
        checked = self._rules.check_subscription(subscription)
        key = self._id_of_key(_base64url(public_key)) if public_key else self._newest_key
        reason: str | None = None
        content: dict[str, Any]
        if isinstance(checked, NoSubscription):
            path = f"subscription.{checked.path}" if checked.path else "subscription"
            raise Rejected([FieldError(path, checked.message)])
        if isinstance(checked, Undeliverable):
            content, reason = {"endpoint": checked.endpoint}, checked.reason
        else:
            content = {
                "endpoint": checked.endpoint.url,
                "keys": {"p256dh": checked.p256dh, "auth": checked.auth},
            }
            if key is None:
                reason = "the subscription was made with a VAPID key that is not this service's"
        row = await self._store.subscribe(
            user,
            content,
            reason=reason,
            new_key=None if reason else key,
            known_key=key if public_key and not reason else None,
        )
        if row is None:
            raise SubscriptionTaken
        return Subscribed(row["id"], row["user_id"], row["is_active"], row["reason"])


def _base64url(key: str) -> str:
    """Without padding, as browsers write it; some clients use the other alphabet."""
    return key.rstrip("=").replace("+", "-").replace("/", "_")
