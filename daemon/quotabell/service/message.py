"""From a row of the history to what channels send."""

from __future__ import annotations

from collections.abc import Mapping

from quotabell.channels.contract import Notification
from quotabell.domain import notice
from quotabell.store.delivery import Message


def draft(topic_key: bytes, message: Message) -> Notification:
    """What all deliveries of a message have in common; ``topic_key`` keys their topic.

    What the row holds beside words is only taken if it is what it should be.
    """
    state = _text(message.data, "stateId")
    # What is sent again is told in no order with the state's own messages, so it replaces none.
    again = "resendOf" in message.data
    tag = notice.tag(message.notification_id if again or not state else state, message.kind)
    percentage = message.data.get("percentage")
    return Notification(
        id="",
        title=message.title,
        body=message.body,
        tag=tag,
        state=message.transition,  # type: ignore[arg-type]
        kind=message.kind,
        ttl=0.0,
        threshold=message.level,
        percentage=percentage if isinstance(percentage, int | float) else None,
        quota=_text(message.data, "quota"),
        provider=_text(message.data, "provider"),
        model=_text(message.data, "model"),
        url=f"/?state={state}" if state else "/",
        urgency=notice.urgency(message.transition, message.level),
        topic=notice.topic(topic_key, tag),
        at=message.created_at,
        user=message.user,
        state_id=state,
        tokens_used=_count(message.data, "tokensUsed"),
        token_limit=_count(message.data, "tokenLimit"),
        period_end=_text(message.data, "periodEnd") or None,
        reason=_text(message.data, "reason") or None,
    )


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _count(data: Mapping[str, object], key: str) -> int | None:
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
