"""What ``/api/push`` takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, Field

from quotabell.domain.usage import NAME_MAX

Name = Annotated[str, Field(max_length=NAME_MAX, pattern=r"^[^\x00]*$")]
Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]


class Subscribe(BaseModel):
    """A browser's subscription for a user; without one it is an operator's."""

    userId: Name | None = None
    subscription: Any = Field(None, description="what PushSubscription.toJSON() gives")
    applicationServerKey: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="the VAPID public key that the subscription was made with"
    )


class GivenKeys(BaseModel):
    """The secret that proves whose subscription it is."""

    auth: Text | None = None


class GivenSubscription(BaseModel):
    """A subscription as the browser gives it."""

    endpoint: Text | None = None
    keys: GivenKeys | None = None


class Unsubscribe(BaseModel):
    """The subscription to end: its endpoint, alone or as the browser gives it."""

    endpoint: Text | None = None
    subscription: GivenSubscription | None = None


class TestMessage(BaseModel):
    """Whose browsers to send a test message to; nobody in particular: the operators'."""

    userId: Name | None = None


class PublicKey(msgspec.Struct, rename="camel"):
    """The applicationServerKey to subscribe with: an uncompressed point in base64url."""

    public_key: str


class Done(msgspec.Struct, rename="camel"):
    """It was done."""

    success: bool


class Subscribed(msgspec.Struct, rename="camel", omit_defaults=True):
    """The subscription as it is stored. ``reason``: why it is not active."""

    success: bool
    id: UUID
    user_id: str | None
    active: bool
    reason: str | None = None


class Queued(msgspec.Struct, rename="camel"):
    """A message waits for its delivery."""

    success: bool
    notification_id: UUID


class Subscription(msgspec.Struct, rename="camel"):
    """A subscription without its secrets. ``userId`` null: an operator's."""

    id: UUID
    user_id: str | None
    is_active: bool
    reason: str | None
    vapid_key_id: str | None
    origin: str | None
    last_success_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Subscriptions(msgspec.Struct, rename="camel"):
    """A part of the list, newest first."""

    items: list[Subscription]
    next_cursor: str | None


class Attempt(msgspec.Struct, rename="camel"):
    """A try of a delivery. ``outcome`` null: under way; unknown: a crash hid it."""

    n: int
    started_at: datetime
    ended_at: datetime | None
    outcome: Literal["sent", "retry", "gone", "failed", "unknown"] | None
    http_status: int | None
    reason: str | None


class Delivery(msgspec.Struct, rename="camel"):
    """A notification for one recipient on one channel; ``name``: which one of the operator's."""

    channel: str
    name: str | None
    status: Literal["pending", "leased", "sent", "failed", "expired", "suppressed", "superseded"]
    http_status: int | None
    reason: str | None
    due: datetime
    finished_at: datetime | None
    attempts: list[Attempt]


class Notification(msgspec.Struct, rename="camel"):
    """A message about a transition of an alert, or a test, and what became of it."""

    id: UUID
    user_id: str | None
    kind: str
    transition: str
    level: float | None
    title: str
    body: str
    data: dict[str, Any]
    status: Literal["pending", "sent", "failed", "suppressed"]
    error: str | None
    alert_id: UUID | None
    seq: int | None
    created_at: datetime
    sent_at: datetime | None
    deliveries: list[Delivery]


class Notifications(msgspec.Struct, rename="camel"):
    """A part of the history, newest first."""

    items: list[Notification]
    next_cursor: str | None
