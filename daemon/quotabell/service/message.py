"""From a row of the history to what channels send."""

from __future__ import annotations

from collections.abc import Mapping

from quotabell.channels.contract import Notification
from quotabell.domain import notice
from quotabell.domain.facts import Audience, Words
from quotabell.domain.noted import facts_of
from quotabell.domain.wording import words
from quotabell.store.delivery import Claimed, Message


def audience(claimed: Claimed) -> Audience:
    """Who will read it there."""
    browser = claimed.subscription
    if claimed.channel != "webpush" or browser is None or not browser.user:
        return "operators"
    return "owner" if browser.user == claimed.message.user else "others"


def said(message: Message, to: Audience) -> Words:
    """The words of a message for those readers.

    What was not put into words in time, or not for them, is said of the facts that it holds:
    the plain words of the row may name its user to others.
    """
    given = message.data.get("words")
    kept = given.get(to) if isinstance(given, dict) else None
    if isinstance(kept, list) and len(kept) == 3 and all(isinstance(part, str) for part in kept):
        return Words(*kept)
    facts = facts_of(
        message.kind,
        message.transition,
        message.data,
        level=message.level,
        user=message.user,
        now=message.created_at,
    )
    return words(facts, to) if facts else Words(message.title, message.body, "")


def draft(topic_key: bytes, message: Message, to: Audience, ttl: float = 0.0) -> Notification:
    """What all deliveries of a message to those readers have in common; ``topic_key`` keys
    their topic.

    What the row holds beside words is only taken if it is what it should be.
    """
    state = _text(message.data, "stateId")
    told = said(message, to)
    # What is sent again is told in no order with the state's own messages, so it replaces none.
    again = "resendOf" in message.data
    about = state or _text(message.data, "subjectId")
    own = _text(message.data, "replaces") or message.notification_id
    tag = notice.tag(own if again or not about else about, message.kind)
    percentage = message.data.get("percentage")
    return Notification(
        id="",
        title=told.title,
        body=told.body,
        text=told.text,
        tag=tag,
        state=message.transition,  # type: ignore[arg-type]
        kind=message.kind,
        ttl=ttl,
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
        subject=_text(message.data, "subject"),
        tokens_used=_count(message.data, "tokensUsed"),
        token_limit=_count(message.data, "tokenLimit"),
        period_end=_text(message.data, "periodEnd") or None,
        reason=_text(message.data, "reason") or None,
        count=_count(message.data, "count") if "digest" in message.data else None,
        members=_members(message.data),
    )


def _members(data: Mapping[str, object]) -> tuple[Mapping[str, object], ...]:
    value = data.get("members") if "digest" in data else None
    return tuple(one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _count(data: Mapping[str, object], key: str) -> int | None:
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
