"""``/api/token-monitor/quotas``: the quotas that are configured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec
from aiohttp import web

from quotabell.config.quotas import Quota, QuotaMatch
from quotabell.domain.matching import Match
from quotabell.http import payload
from quotabell.http.auth import Caller
from quotabell.http.route import Answer, Route

PATH = "/api/token-monitor/quotas"


class QuotaPatterns(msgspec.Struct, rename="camel"):
    """Shell patterns, of which one must match; an empty ``userId`` is nobody in particular."""

    provider: list[str]
    model: list[str]
    user_id: list[str]


class QuotaOverride(msgspec.Struct, rename="camel"):
    """Another limit for those who match; of several the first counts."""

    match: QuotaPatterns
    limit: int


class ConfiguredQuota(msgspec.Struct, rename="camel"):
    """A quota. ``per``: for each value of what it counts apart, by the names of the API.

    ``weights``: tokens of the limit that one token of a kind takes, or one request.
    ``thresholds`` null: those of the scopes.
    """

    name: str
    match: QuotaPatterns
    per: list[str]
    limit: int
    overrides: list[QuotaOverride]
    window: str
    anchor: datetime | None
    timezone: str
    weights: dict[str, Decimal]
    thresholds: list[float] | None
    notify: list[str]


class ConfiguredQuotas(msgspec.Struct, rename="camel"):
    """All quotas, in the order of the configuration."""

    items: list[ConfiguredQuota]
    next_cursor: str | None


def routes(configured: Callable[[], Sequence[Quota]]) -> list[Route]:
    """The routes of this resource. A user sees what is about that user."""

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        items = [
            _shown(quota, caller.user) for quota in configured() if _about(quota.match, caller.user)
        ]
        return payload.listed(request, items, None)

    return [
        Route(
            "GET",
            PATH,
            listed,
            "read",
            "The quotas that are configured",
            answers={200: Answer("As configured", ConfiguredQuotas)} | payload.UNCHANGED,
        )
    ]


def _about(match: QuotaMatch, user: str | None) -> bool:
    return user is None or Match(user=match.user).matches(user=user)


def _shown(quota: Quota, user: str | None) -> ConfiguredQuota:
    return ConfiguredQuota(
        quota.name,
        _patterns(quota.match, user),
        ["userId" if dimension == "user" else dimension for dimension in quota.per],
        quota.limit,
        [
            QuotaOverride(_patterns(override.match, user), override.limit)
            for override in quota.overrides
            if _about(override.match, user)
        ],
        quota.window,
        quota.anchor,
        quota.timezone,
        {payload.camel_name(kind): weight for kind, weight in quota.values()["weights"].items()},
        None if quota.thresholds is None else list(quota.thresholds),
        list(quota.notify),
    )


def _patterns(match: QuotaMatch, user: str | None) -> QuotaPatterns:
    """To a user only the patterns that match that user: others may name others."""
    users = [p for p in match.user if user is None or Match(user=p).matches(user=user)]
    return QuotaPatterns(list(match.provider), list(match.model), users)
