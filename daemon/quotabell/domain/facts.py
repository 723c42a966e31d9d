"""What a message is made of: plain facts, filled in by whoever finds them, worded elsewhere.

Names are taken as they came; wording cleans, isolates and shortens them. Times have a zone.
Whatever is not known is None or empty and is left out of the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

State = Literal["firing", "resolved"]
Unit = Literal["tokens", "requests", "percent"]

# Who reads: the one whose usage it is, those who run the service, or anybody else.
# Only operators are told names of users.
Audience = Literal["owner", "operators", "others"]
AUDIENCES: tuple[Audience, ...] = ("owner", "operators", "others")


@dataclass(frozen=True, slots=True)
class Part:
    """How much one user or one model used lately."""

    name: str
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributors:
    """Who used most lately, the largest first, and all that was used in that time."""

    total: int
    seconds: float = 3600.0  # looked back; less where there is too much to look through
    users: tuple[Part, ...] = ()  # of a shared quota
    models: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaFacts:
    """An alert of one quota state, of kind ``threshold`` or ``forecast``."""

    kind: Literal["threshold", "forecast"]
    state: State
    now: datetime
    quota: str  # reported… for what providers tell
    provider: str  # * for any
    model: str  # * for any
    user: str = ""  # empty: shared
    unit: Unit = "tokens"
    used: int
    limit: int | None = None
    level: float | None = None  # percent
    burn: float | None = None  # units per second; None: not known
    exhausts_at: datetime | None = None  # of a forecast; None: it follows from the burn
    resets_at: datetime | None = None
    zone: str = "UTC"  # IANA name, of the quota
    reason: str = ""  # why it is resolved
    contributors: Contributors | None = None
    link: str = ""  # where to look further: an absolute URL


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """A source that reported regularly and stopped (``stale``)."""

    state: State
    now: datetime
    source: str
    last_seen: datetime | None = None
    rhythm: float | None = None  # seconds that usually pass at most between its reports
    reason: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFacts:
    """A channel over which nothing arrives any more (``channel``)."""

    state: State
    now: datetime
    channel: str
    since: datetime | None = None  # of the first delivery that failed
    error: str = ""  # the last one: a bounded word or two, never what a receiver said
    failed: int | None = None  # deliveries since then
    reason: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFacts:
    """A message that only shows that messages arrive."""

    now: datetime
    user: str = ""
    link: str = ""


Facts = QuotaFacts | SourceFacts | ChannelFacts | TrialFacts


@dataclass(frozen=True, slots=True)
class Words:
    """A message. Title and body together are the short form, as push shows it: at most 178
    characters with the line break between them. Title and text are the long one: at most 600.
    """

    title: str
    body: str
    text: str  # lines
