"""Messages in words: a short form as push shows it, and a long one. See ``Words`` for bounds.

What is made of facts never raises, whatever the facts are; names of other users are told to
operators only.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from quotabell.domain import figures, quota_words
from quotabell.domain.draft import Draft
from quotabell.domain.facts import (
    Audience,
    ChannelFacts,
    Facts,
    QuotaFacts,
    SourceFacts,
    TrialFacts,
    Words,
)
from quotabell.domain.names import shown

_WIDTHS: Final = (40, 28, 20, 14, 10)  # of a name, until all that belongs there fits
_LINK: Final = 200  # characters of a link that is worth its room
_TEST: Final = "This is a test: notifications arrive."
_PLAIN: Final = ("", "reports again", "works again")  # reasons that the title tells
_LAST: Final = 9  # the rank of the link


def words(facts: Facts, audience: Audience) -> Words:
    """The message for those readers."""
    made = _draft(facts, audience, _WIDTHS[0])
    for width in _WIDTHS[1:]:
        if made.fits():
            break
        made = _draft(facts, audience, width)
    return made.words()


def _draft(facts: Facts, audience: Audience, width: int) -> Draft:
    match facts:
        case QuotaFacts():
            made = quota_words.draft(facts, audience, width)
        case SourceFacts():
            made = _source(facts, width)
        case ChannelFacts():
            made = _channel(facts, width)
        case TrialFacts():
            made = _test(facts, audience, width)
    if len(facts.link) <= _LINK and facts.link.isascii() and facts.link.isprintable():
        firing = isinstance(facts, QuotaFacts) and facts.state == "firing"
        does = "Acknowledge or silence it" if firing else "See"
        made.tell(_LAST, f"{does}: {facts.link}" if facts.link else None)
    return made


def headline(facts: QuotaFacts | SourceFacts | ChannelFacts, width: int) -> str:
    """What has happened, in a few words; names no user."""
    match facts:
        case QuotaFacts():
            return quota_words.headline(facts, width)
        case SourceFacts():
            does = "stopped reporting" if facts.state == "firing" else "reports again"
            return f"{shown(facts.source, width)} {does}"
        case ChannelFacts():
            does = "does not deliver" if facts.state == "firing" else "delivers again"
            return f"Channel {shown(facts.channel, width)} {does}"


def _source(facts: SourceFacts, width: int) -> Draft:
    made = Draft(headline(facts, width))
    silent, rhythm = _since(facts.last_seen, facts.now), _within(facts.rhythm)
    if facts.state == "resolved":
        _end(made, facts.reason, silent, "It was silent for", width)
        return made
    made.say(0, f"last seen {silent} ago" if silent else None)
    made.say(0, f"usually within {rhythm}" if rhythm else None)
    if facts.last_seen and silent:
        seen = figures.clock(facts.last_seen, facts.now, "UTC")
        made.tell(0, f"Last seen {silent} ago: {seen}.")
    made.tell(0, f"Usually it reports within {rhythm}." if rhythm else None)
    made.tell(1, "Meanwhile its usage is not counted. Check that it runs and may report.")
    return made


def _channel(facts: ChannelFacts, width: int) -> Draft:
    made = Draft(headline(facts, width))
    lasted, failed = _since(facts.since, facts.now), None
    if facts.failed is not None and facts.failed > 0:
        failed = f"{figures.amount(facts.failed)} message{'s' if facts.failed > 1 else ''} failed"
    if facts.state == "resolved":
        _end(made, facts.reason, lasted, "Nothing arrived for", width)
        made.say(1, failed)
        made.tell(1, f"Meanwhile {failed}." if failed else None)
        return made
    error = f"ast error: {shown(facts.error, 2 * width)}" if facts.error else None
    made.say(0, f"nothing has arrived for {lasted}" if lasted else None)
    made.say(1, f"l{error}" if error else None)
    made.say(2, failed)
    if facts.since and lasted:
        since = figures.clock(facts.since, facts.now, "UTC")
        made.tell(0, f"Nothing has arrived for {lasted}: since {since}.")
    made.tell(0, f"L{error}." if error else None)
    made.tell(1, f"Meanwhile {failed}." if failed else None)
    made.tell(2, "Check its address and secret, then try it: quotabell push test")
    return made


def _end(made: Draft, reason: str, lasted: str | None, did: str, width: int) -> None:
    why = shown(reason, 2 * width) if reason not in _PLAIN else None
    made.say(0, f"after {lasted}" if lasted else None)
    made.say(1, why)
    made.tell(0, f"{did} {lasted}." if lasted else None)
    made.tell(1, f"Resolved: {why}." if why else None)


def _test(facts: TrialFacts, audience: Audience, width: int) -> Draft:
    made = Draft("Quotabell", [(0, _TEST)], [(0, _TEST)])
    if facts.user and audience == "operators":
        made.tell(1, f"Sent to {shown(facts.user, width)}.")
    return made


def _since(past: datetime | None, now: datetime) -> str | None:
    seconds = (now - past).total_seconds() if past else 0.0
    return figures.duration(seconds) if seconds > 0 else None


def _within(seconds: float | None) -> str | None:
    if seconds is None or not seconds > 0:
        return None
    return f"{max(1, round(seconds))} s" if seconds < 59.5 else figures.duration(seconds)
