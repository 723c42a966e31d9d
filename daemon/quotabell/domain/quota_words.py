"""The message about an alert of one quota."""

from __future__ import annotations

from typing import Final

from quotabell.domain import figures, phrases
from quotabell.domain.draft import Draft
from quotabell.domain.facts import Audience, QuotaFacts
from quotabell.domain.names import shown

_OVER: Final = "period over"
_REMOVED: Final = "usage removed"
_REASONS: Final = {
    "limit unknown": "its limit is unknown",
    _OVER: "a new period began",
    _REMOVED: "its usage was removed",
    "slower burn": "it is used more slowly",
    "exhausted": "the limit is reached",
    "no forecast": "it is not foretold any more",
}


def headline(facts: QuotaFacts, width: int) -> str:
    """What has happened, in a few words; names no user."""
    named, percent = phrases.name(facts, width), phrases.percent(facts)
    if facts.state == "resolved":
        why = _why(facts, percent, width)
        return f"{named} is resolved: {why}" if why else f"{named} is resolved"
    empty = phrases.until_empty(facts) or ""
    if facts.kind == "forecast" and empty.startswith(phrases.RUNS_OUT):
        return f"{named} {empty}"
    return f"{named} is at {percent or 'an unknown percentage'}"


def _why(facts: QuotaFacts, percent: str | None, width: int) -> str:
    if facts.reason == "fell" and facts.kind == "threshold":
        return f"fell to {percent}" if percent else "fell"
    if facts.reason == "limit raised":
        return f"limit raised, now at {percent}" if percent else "limit raised"
    known = _REASONS.get(facts.reason)
    return known or (shown(facts.reason, max(width, 24)) if facts.reason else "")


def draft(facts: QuotaFacts, audience: Audience, width: int) -> Draft:
    """The message for those readers."""
    made = Draft(headline(facts, width))
    used = phrases.amounts(facts, audience, width)
    if facts.state == "resolved":
        _resolved(made, facts, used)
    else:
        _firing(made, facts, used)
        _contributors(made, facts, phrases.contributors(facts, audience, width))
        _advice(made, facts)
    return made


def _firing(made: Draft, facts: QuotaFacts, used: str) -> None:
    empty, percent = phrases.until_empty(facts), phrases.percent(facts)
    if facts.kind == "forecast" and empty and empty.startswith(phrases.RUNS_OUT):
        made.say(0, used if facts.unit == "percent" else f"{used} ({percent})")
        pace = phrases.pace(facts)
        made.say(1, f"{pace} now" if pace else None)
    else:
        made.say(0, used)
        made.say(0, empty)
    made.tell(0, f"{used}.")
    made.tell(0, _emptying(facts, empty))
    _reset(made, facts)


def _emptying(facts: QuotaFacts, empty: str | None) -> str | None:
    """When it runs out, and how fast."""
    at, pace = phrases.exhausts_at(facts), phrases.pace(facts)
    if empty and at is not None:
        clock = figures.clock(at, facts.now, facts.zone)
        when = f": {clock}" if empty.startswith(phrases.RUNS_OUT) else ""
        return f"{_sentence(empty)}{when}{f', at {pace}' if pace else ''}."
    if empty:
        return f"Used up{'' if empty == phrases.USED_UP else f', {empty}'}."
    if phrases.limit(facts) is None:
        return None
    return "Not used lately." if phrases.speed(facts) == 0 else "How fast it grows is not known."


def _reset(made: Draft, facts: QuotaFacts) -> None:
    seconds = phrases.resets_in(facts)
    if seconds and facts.resets_at:
        after = f"resets in {figures.duration(seconds)}"
        clock = figures.clock(facts.resets_at, facts.now, facts.zone)
        made.say(0, after)
        made.tell(0, f"{_sentence(after)}: {clock}.")
    elif facts.resets_at is None:
        made.tell(2, "No reset is known.")


def _contributors(made: Draft, facts: QuotaFacts, found: list[str]) -> None:
    if found:
        made.say(2, f"most by {found[0]}")
        made.tell(1, f"Most in {phrases.lately(facts)}: {', '.join(found)}.")


def _advice(made: Draft, facts: QuotaFacts) -> None:
    if sustainable := phrases.sustainable(facts):
        made.tell(3, f"To last until then: at most {sustainable}.")


def _resolved(made: Draft, facts: QuotaFacts, used: str) -> None:
    over, percent = facts.reason in (_OVER, _REMOVED), phrases.percent(facts)
    # Nothing more is known than how it ended.
    said = f"it ended at {used}" if over else used
    if percent and facts.reason == "threshold removed" and facts.unit != "percent":
        said += f" ({percent})"
    made.say(0, said)
    made.tell(0, f"{_sentence(said)}.")
    if not over:
        _reset(made, facts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
