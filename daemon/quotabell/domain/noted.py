"""Facts as the history keeps them: what the `data` of a notification says of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from quotabell.domain.facts import ChannelFacts, QuotaFacts, SourceFacts, State

_LONGEST: Final = 1e9  # seconds


def facts_of(
    kind: str,
    transition: str,
    data: Mapping[str, Any],
    *,
    level: float | None,
    user: str,
    now: datetime,
) -> QuotaFacts | SourceFacts | ChannelFacts | None:
    """What a notification tells of, as far as it says so; None: nothing that could be worded.

    Read as if anybody had written it.
    """
    if transition not in ("firing", "resolved"):
        return None
    state: State = "firing" if transition == "firing" else "resolved"
    reason = text(data, "reason")
    subject = text(data, "subject")
    if kind == "stale" and subject:
        return SourceFacts(
            state=state,
            now=now,
            source=subject,
            last_seen=_seen(data, state, now),
            rhythm=_number(data, "usualPause"),
            reason=reason,
        )
    if kind == "channel" and subject:
        return ChannelFacts(
            state=state,
            now=now,
            channel=subject,
            since=moment(data, "failingSince"),
            error=text(data, "error"),
            failed=whole(data, "failed"),
            reason=reason,
        )
    used, provider, model = (whole(data, "tokensUsed"), text(data, "provider"), text(data, "model"))
    if kind not in ("threshold", "forecast") or used is None or not (provider and model):
        return None
    of: Literal["threshold", "forecast"] = "forecast" if kind == "forecast" else "threshold"
    return QuotaFacts(
        kind=of,
        state=state,
        now=now,
        quota=text(data, "quota"),
        provider=provider,
        model=model,
        user=user,
        used=used,
        limit=whole(data, "tokenLimit"),
        level=level if of == "threshold" else None,
        burn=_number(data, "burn"),
        exhausts_at=moment(data, "exhaustsAt"),
        resets_at=moment(data, "periodEnd"),
        reason=reason,
    )


def _seen(data: Mapping[str, Any], state: State, now: datetime) -> datetime | None:
    """When a source reported before it was silent."""
    silent = _number(data, "silentFor")
    if state == "resolved" and silent is not None and 0 <= silent < _LONGEST:
        return now - timedelta(seconds=silent)
    return moment(data, "lastEventAt")


def text(data: Mapping[str, Any], key: str) -> str:
    """The text there; empty if there is none."""
    value = data.get(key)
    return value if isinstance(value, str) else ""


def whole(data: Mapping[str, Any], key: str) -> int | None:
    """The whole number there."""
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(data: Mapping[str, Any], key: str) -> datetime | None:
    """The time there, UTC where it has no zone."""
    try:
        found = datetime.fromisoformat(text(data, key))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _number(data: Mapping[str, Any], key: str) -> float | None:
    value = data.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e30:
        return None
    return float(value)
