"""Alerts about sources and channels, which have no quota state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("subjects")

SubjectKind = Literal["stale", "channel"]
Facts = Mapping[str, Any]
"""What messages about the subject tell: text, numbers, times, durations (shown in seconds)."""


class End(NamedTuple):
    """Why an alert ends, and what is new of its facts."""

    reason: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class SubjectStore:
    """Every method may be repeated and raises Unavailable, or Conflict. They return the subjects
    whose alerts did begin, or end."""

    database: Database

    async def fire(self, kind: SubjectKind, found: Mapping[str, Facts]) -> list[str]:
        """Begin alerts of these subjects and announce them; one that fires goes on as it is."""
        if not found:
            return []
        facts = [_encoded(facts) for facts in found.values()]
        rows = await self.database.fetch(_SQL["fire"], kind, list(found), facts)
        return sorted(row["subject"] for row in rows)

    async def resolve(self, kind: SubjectKind, ended: Mapping[str, End]) -> list[str]:
        """End alerts of these subjects and announce it."""
        if not ended:
            return []
        reasons = [end.reason for end in ended.values()]
        facts = [_encoded(end.facts) for end in ended.values()]
        rows = await self.database.fetch(_SQL["resolve"], kind, list(ended), reasons, facts)
        return sorted(row["subject"] for row in rows)


def _encoded(facts: Facts) -> str:
    return json.dumps(dict(facts), default=_told)


def _told(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case timedelta():
            return round(value.total_seconds(), 1)
    raise TypeError(f"no fact: {type(value).__name__}")
