"""Messages of every kind and of many at once, as ``messages.txt`` holds them for reading.

After a change of words: ``PYTHONPATH=daemon:. python -m tests.domain.messages``, then read what
changed. ⟨ and ⟩ stand for the invisible marks of isolation.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from quotabell.domain.digest import compose
from quotabell.domain.facts import (
    Audience,
    ChannelFacts,
    Contributors,
    Facts,
    Part,
    QuotaFacts,
    SourceFacts,
    TrialFacts,
)
from quotabell.domain.names import ISOLATE, POP
from quotabell.domain.wording import words

GOLDEN = Path(__file__).with_name("messages.txt")
NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
LINK = "https://quotabell.example/?state=4f0c1d1e-0000-4000-8000-000000000001"
ALL: tuple[Audience, ...] = ("owner", "operators", "others")
OPERATORS: tuple[Audience, ...] = ("operators",)

USERS = (Part("alice", 620), Part("bob", 200), Part("carol", 95), Part("dan", 5))
MODELS = (Part("gpt-5", 810), Part("gpt-5-mini", 150), Part("o4", 9))
LATELY = Contributors(total=1000, users=USERS, models=MODELS)


def after(**of: float) -> datetime:
    """So long from now; negative: ago."""
    return NOW + timedelta(**of)


def quota(**changes: Any) -> QuotaFacts:
    """gpt-5 of alice at 90 % of 2 M tokens, as the contract has it."""
    given: dict[str, Any] = {
        "kind": "threshold",
        "state": "firing",
        "now": NOW,
        "quota": "reported",
        "provider": "openai",
        "model": "gpt-5",
        "user": "alice",
        "used": 1_800_000,
        "limit": 2_000_000,
        "level": 90.0,
        "burn": 200_000 / (42.4 * 60),
        "resets_at": after(hours=3),
        "zone": "Europe/Berlin",
        "link": LINK,
    }
    return QuotaFacts(**given | changes)


def shared(**changes: Any) -> QuotaFacts:
    """A quota that counts all models of all users as one."""
    given = {"quota": "daily", "model": "*", "user": "", "contributors": LATELY}
    return quota(**given | changes)


def ended(reason: str, **changes: Any) -> QuotaFacts:
    return quota(**{"state": "resolved", "reason": reason, "burn": None} | changes)


SOURCE: dict[str, Any] = {"now": NOW, "source": "apps/otlp/checkout", "link": LINK}
CHANNEL: dict[str, Any] = {"now": NOW, "channel": "ops", "link": LINK}
FAILING: dict[str, Any] = {"since": after(minutes=-25), "error": "timeout", "failed": 12}
MESSAGES: dict[str, tuple[tuple[Audience, ...], Facts]] = {
    "a threshold of a user's quota": (ALL, quota()),
    "a shared quota": (ALL, shared()),
    "a user's quota of all models": (
        ALL,
        quota(quota="per-person", model="*", contributors=Contributors(total=1000, models=MODELS)),
    ),
    "nearly full": (OPERATORS, quota(used=1_999_999)),
    "nearly full, with a limit that reads alike": (
        OPERATORS,
        quota(used=1_999_998, limit=1_999_999),
    ),
    "exactly at 100 %": (("owner", "operators"), quota(used=2_000_000, level=100.0)),
    "over 100 %": (OPERATORS, quota(used=2_240_000, level=100.0)),
    "a single token over": (OPERATORS, quota(used=2_000_001, level=100.0)),
    "far over": (OPERATORS, quota(used=9_000_000_000_000_000_000, limit=10_000, level=100.0)),
    "a threshold between two percent": (OPERATORS, quota(used=1_850_900, level=92.545)),
    "no reset known": (OPERATORS, quota(resets_at=None)),
    "no burn known": (OPERATORS, quota(burn=None)),
    "not used lately": (OPERATORS, quota(burn=0.0)),
    "lasts until the reset": (OPERATORS, quota(burn=10.0)),
    "resets another day": (OPERATORS, quota(resets_at=after(days=3, hours=10), zone="Asia/Tokyo")),
    "percent, as a provider told it": (
        OPERATORS,
        quota(
            provider="anthropic",
            model="*",
            quota="reported:5h",
            unit="percent",
            used=91,
            limit=100,
            burn=0.002,
            zone="UTC",
        ),
    ),
    "requests, as a provider told it": (
        OPERATORS,
        quota(
            quota="reported:requests",
            unit="requests",
            used=12_599,
            limit=14_000,
            level=75.0,
            burn=20.0,
            resets_at=after(minutes=9),
            zone="UTC",
        ),
    ),
    "a forecast": (
        ALL,
        shared(kind="forecast", used=1_200_000, level=60.0, exhausts_at=after(minutes=42.4)),
    ),
    "a forecast of minutes": (
        OPERATORS,
        quota(kind="forecast", used=1_999_000, resets_at=after(minutes=30)),
    ),
    "resolved: fell": (ALL, ended("fell", used=1_200_000)),
    "resolved: limit raised": (
        OPERATORS,
        ended("limit raised", limit=4_000_000),
    ),
    "resolved: limit unknown": (OPERATORS, ended("limit unknown", limit=None)),
    "resolved: threshold removed": (OPERATORS, ended("threshold removed")),
    "resolved: period over": (OPERATORS, ended("period over", resets_at=NOW)),
    "resolved: usage removed": (OPERATORS, ended("usage removed")),
    "resolved: a forecast": (
        OPERATORS,
        ended("slower burn", kind="forecast", used=1_300_000),
    ),
    "a Chinese and a Japanese name": (
        OPERATORS,
        quota(quota="每日限额", provider="通义千问", model="qwen-最新版", user="山田太郎"),
    ),
    "a Hebrew and an Arabic name": (
        OPERATORS,
        quota(
            quota="מכסה יומית",
            model="*",
            user="",
            contributors=Contributors(
                total=1000, users=(Part("נועה 7", 620), Part("محمد ٤", 200), Part("bob", 90))
            ),
        ),
    ),
    "a direction turned by force": (
        OPERATORS,
        quota(user="\u202eecila\u2066", model="gpt\u200f-5"),
    ),
    "very long names": (
        OPERATORS,
        shared(
            quota="everything-that-the-platform-team-uses-" * 5,
            provider="a-gateway-of-our-own." * 9,
            model="👨🏻‍👩🏻‍👧🏻‍👦🏻" * 18,
            contributors=Contributors(
                total=1000, users=(Part("e\u0301" * 100, 620), Part("Ω" * 200, 200))
            ),
        ),
    ),
    "a source": (
        OPERATORS,
        SourceFacts(state="firing", last_seen=after(minutes=-25), rhythm=130.0, **SOURCE),
    ),
    "a source whose name has control characters": (
        OPERATORS,
        SourceFacts(
            state="firing",
            last_seen=after(days=-2),
            rhythm=5.0,
            **SOURCE | {"source": "apps/otlp/\x1b[31mcheck\nout\x00\u202e"},
        ),
    ),
    "resolved: a source": (
        OPERATORS,
        SourceFacts(state="resolved", last_seen=after(hours=-3), **SOURCE),
    ),
    "a channel": (OPERATORS, ChannelFacts(state="firing", **CHANNEL, **FAILING)),
    "resolved: a channel": (OPERATORS, ChannelFacts(state="resolved", **CHANNEL, **FAILING)),
    "a test": (("owner", "operators"), TrialFacts(now=NOW, user="alice", link=LINK)),
}

FULL: tuple[dict[str, Any], ...] = tuple(
    {"userId": user, "quota": quota, "provider": "openai", "model": model, "percentage": of}
    for user, quota, model, of in (
        ("alice", "reported", "gpt-5", 112.0),
        ("bob", "reported", "gpt-5-mini", 98.9),
        ("", "daily", "*", 97.0),
    )
)
SILENT = ({"subject": "apps/otlp/checkout"}, {"subject": "laptop/\x1b[31mcheck\nout\u202e"})
DIGESTS = {
    "very many at once": compose("threshold", ends=False, number=9_993, worst=FULL),
    "a few at once, to a user": compose(
        "forecast", ends=False, number=3, worst=FULL[:1] * 3, named=False
    ),
    "many ended at once": compose("threshold", ends=True, number=3, worst=FULL),
    "many sources at once": compose("stale", ends=False, number=6, worst=SILENT),
    "many sources are back at once": compose("stale", ends=True, number=2, worst=SILENT),
    "many channels at once": compose("channel", ends=False, number=7, worst=[{"subject": "ops"}]),
}


def rendered() -> str:
    """All of them as the file has them."""
    blocks = [f"# {name}\n\n" + "\n".join(_told(*of)) for name, of in MESSAGES.items()]
    blocks += [f"# {name}\n\n  {of.title}\n  {of.body}\n" for name, of in DIGESTS.items()]
    text = "\n".join(blocks)
    return text.replace(ISOLATE, "⟨").replace(POP, "⟩")


def _told(audiences: tuple[Audience, ...], facts: Facts) -> Iterator[str]:
    """Readers who are told the same stand together."""
    told = {audience: words(facts, audience) for audience in audiences}
    for said in dict.fromkeys(told.values()):
        readers = ", ".join(audience for audience in audiences if told[audience] == said)
        lines = "".join(f"    {line}\n" for line in said.text.splitlines())
        short = len(said.title) + 1 + len(said.body)
        long = len(said.title) + 1 + len(said.text)
        yield f"to {readers} ({short}, {long})\n  {said.title}\n  {said.body}\n{lines}"


if __name__ == "__main__":
    GOLDEN.write_text(rendered(), "utf-8")
