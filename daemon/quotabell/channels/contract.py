"""What every channel takes and gives.

A channel tries once and says what became of it. Retry, leases, rate limits and breakers live
outside, so that they are the same for all channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeVar

from quotabell.domain.outcome import Outcome

State = Literal["firing", "resolved", "test"]
Urgency = Literal["very-low", "low", "normal", "high"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message about one transition of an alert, as every channel gets it.

    ``tag`` and ``topic`` derive from the quota state and the alert's kind, never from the
    level: a later message replaces an earlier one of the same alert. ``topic`` is seen by
    third parties, hence a keyed hash. Raises ValueError for a topic that RFC 8030 §5.4 forbids.
    """

    id: str  # constant over the retries of one delivery
    title: str
    body: str  # with the title the short form, as push shows it
    tag: str
    state: State
    kind: str  # threshold, forecast, stale, channel
    ttl: float  # seconds for which the message is worth delivering
    threshold: float | None = None  # percent
    percentage: float | None = None
    quota: str = ""
    provider: str = ""
    model: str = ""
    url: str = ""
    urgency: Urgency = "normal"
    topic: str = ""  # at most 32 characters of base64url; empty: none
    at: datetime = _EPOCH  # of the transition
    user: str = ""  # of the quota state; empty: nobody in particular
    state_id: str = ""  # empty: of no single quota state
    subject: str = ""  # the source or channel that a stale or channel alert is about
    tokens_used: int | None = None
    token_limit: int | None = None
    period_end: str | None = None  # RFC 3339
    reason: str | None = None  # why it is resolved
    text: str = ""  # with the title the long form; lines; empty: there is none
    started_at: datetime | None = None  # of the alert; None: there is none
    ended_at: datetime | None = None  # None: it fires
    count: int | None = None  # of alerts that it tells of; None: it is no digest
    members: tuple[Mapping[str, Any], ...] = ()  # the worst of these

    def __post_init__(self) -> None:
        if self.topic and not _TOPIC.fullmatch(self.topic):
            raise ValueError("a topic is at most 32 characters of base64url")

    def payload(self) -> dict[str, Any]:
        """What the receiver's program reads, by its public names."""
        return {
            "title": self.title,
            "body": self.body,
            "tag": self.tag,
            "state": self.state,
            "kind": self.kind,
            "threshold": self.threshold,
            "percentage": self.percentage,
            "quota": self.quota,
            "provider": self.provider,
            "model": self.model,
            "url": self.url,
        }

    def details(self) -> dict[str, Any]:
        """The payload with what only an operator's program is told.

        Of a digest also the worst of its members, and how many are left out (``truncated``).
        """
        digest: dict[str, Any] = {}
        if self.count is not None:
            left = max(0, self.count - len(self.members))
            digest = {"count": self.count, "members": list(self.members), "truncated": left}
        return (
            self.payload()
            | digest
            | {
                "stateId": self.state_id or None,
                "subject": self.subject or None,
                "userId": self.user or None,
                "tokensUsed": self.tokens_used,
                "tokenLimit": self.token_limit,
                "periodEnd": self.period_end,
                "reason": self.reason,
                "text": self.text or self.body,
            }
        )


Target = TypeVar("Target", contravariant=True)


class Channel(Protocol[Target]):
    """One way to reach people. Open between ``__aenter__`` and ``__aexit__``; sends may overlap.

    ``Target`` is what the channel needs to know of a recipient.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

    def origin(self, target: Target) -> str:
        """What shares one fate and one limit of concurrency; holds no secret."""
        ...

    async def send(self, notification: Notification, target: Target) -> Outcome:
        """Try once, within 10 seconds. Whatever is wrong with the target is an Outcome."""
        ...
