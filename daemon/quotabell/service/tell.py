"""Puts notifications into words, just before they are turned into deliveries.

A message that cannot be worded keeps the plain words it was written with: nothing here may
hold a delivery up for long.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from quotabell.domain.facts import (
    AUDIENCES,
    Audience,
    ChannelFacts,
    Contributors,
    Part,
    QuotaFacts,
    SourceFacts,
)
from quotabell.domain.noted import facts_of
from quotabell.domain.periods import CalendarWindow
from quotabell.domain.quotas import NOBODY, SHARED, QuotaBook
from quotabell.domain.wording import words
from quotabell.errors import QuotabellError, Refused
from quotabell.log import Logger
from quotabell.store.telling import TellingStore, Used, Waiting, Worded

PATIENCE: Final = 0.25  # seconds that contributors are worth
_NAMED: Final = 4  # contributors
_SLICE: Final = 4  # messages worded before others get their turn: some 1 ms

AlertFacts = QuotaFacts | SourceFacts | ChannelFacts


@dataclass(frozen=True, slots=True)
class Teller:
    """``link``: the address of this daemon, to which messages lead."""

    store: TellingStore
    log: Logger
    link: str = ""

    async def tell(self, limit: int) -> list[UUID] | None:
        """Put up to ``limit`` notifications that wait into words; those that may go now, None:
        any. Raises Unavailable or Conflict if it cannot be read what waits, and nothing else.
        """
        try:
            waiting = await self.store.waiting(limit)
        except Refused as error:
            self.log.error("messages keep their plain words", reason=str(error))
            return None
        try:
            if mute := [one for one in waiting if one.mute]:
                await self.store.word(await self._worded(mute))
        except QuotabellError as error:
            self.log.warning("messages keep their plain words", reason=str(error))
        except Exception:
            self.log.exception("messages keep their plain words")
        return [one.id for one in waiting]

    async def _worded(self, waiting: Sequence[Waiting]) -> list[Worded]:
        quotas = self.store.quotas
        found = [(one, facts) for one in waiting if (facts := _facts(one, quotas, self.link))]
        lately = await self._lately(facts for _, facts in found)
        done: list[Worded] = []
        for n, (one, facts) in enumerate(found):
            if n % _SLICE == 0:
                await asyncio.sleep(0)
            if lately and _asks(facts):
                assert isinstance(facts, QuotaFacts)
                facts = replace(facts, contributors=contributors(facts, lately, quotas))
            try:
                done.append(_words(one, facts))
            except Exception:  # costs its own words only
                self.log.exception("a message keeps its plain words", notification=str(one.id))
        return done

    async def _lately(self, facts: Iterable[AlertFacts]) -> dict[str, list[Used]]:
        """What was used by each user, and by all under the name of nobody."""
        asking = [one.user for one in facts if isinstance(one, QuotaFacts) and _asks(one)]
        if not asking:
            return {}
        users = sorted({user for user in asking if user})
        try:
            async with asyncio.timeout(PATIENCE):
                used = await self.store.lately(users, everybody=NOBODY in asking)
        except (QuotabellError, TimeoutError) as error:
            self.log.warning("messages name no contributors", reason=str(error) or "slow")
            return {}
        by_user: defaultdict[str, list[Used]] = defaultdict(list)
        for one in used:
            by_user[one.user].append(one)
        return {**by_user, NOBODY: used}


def _facts(one: Waiting, quotas: QuotaBook, link: str) -> AlertFacts | None:
    found = facts_of(
        one.kind, one.transition, one.data, level=one.level, user=one.user, now=one.now
    )
    if not isinstance(found, QuotaFacts):
        return found and replace(found, link=f"{link}/" if link else "")
    return replace(
        found,
        unit=one.unit or "tokens",
        burn=one.burn if found.burn is None else found.burn,
        resets_at=found.resets_at or one.period_end,
        zone=_zone(found.quota, quotas),
        link=f"{link}/?state={one.state}" if link else "",
    )


def _zone(name: str, quotas: QuotaBook) -> str:
    try:
        window = quotas[name].window
    except LookupError:
        return "UTC"
    return window.zone.key if isinstance(window, CalendarWindow) else "UTC"


def _asks(facts: AlertFacts) -> bool:
    """Whether it may be said who uses most: of what several share."""
    if not isinstance(facts, QuotaFacts) or facts.state != "firing":
        return False
    return facts.user == NOBODY or SHARED in (facts.provider, facts.model)


def contributors(
    facts: QuotaFacts, lately: dict[str, list[Used]], quotas: QuotaBook
) -> Contributors | None:
    """Who used most of this quota lately, as it weighs usage."""
    users: defaultdict[str, int] = defaultdict(int)
    models: defaultdict[str, int] = defaultdict(int)
    seconds = 3600.0
    for used in lately.get(facts.user, ()):
        if amount := _amount(facts, used, quotas):
            users[used.user] += amount
            models[used.model] += amount
            seconds = used.seconds
    total = sum(users.values())
    if not total:
        return None
    return Contributors(total=total, seconds=seconds, users=_most(users), models=_most(models))


def _amount(facts: QuotaFacts, used: Used, quotas: QuotaBook) -> int:
    """What it took of the quota; of those that providers told there is only the name."""
    caller = (used.provider, used.model, used.user)
    try:
        quota = quotas[facts.quota]
    except LookupError:
        wanted = (facts.provider, facts.model)
        same = all(want in (SHARED, has) for want, has in zip(wanted, caller, strict=False))
        return (used.requests if facts.unit == "requests" else sum(used.kinds)) if same else 0
    mine = (facts.user, facts.provider, facts.model)
    if not quota.applies(*caller) or quota.subject(*caller) != mine:
        return 0
    return quota.weigh(used.kinds, used.requests)


def _most(amounts: dict[str, int]) -> tuple[Part, ...]:
    ordered = sorted(amounts.items(), key=lambda part: (-part[1], part[0]))
    return tuple(Part(name, amount) for name, amount in ordered[:_NAMED])


def _words(one: Waiting, facts: AlertFacts) -> Worded:
    told: dict[Audience, tuple[str, str, str]] = {}
    for audience in AUDIENCES:
        said = words(facts, audience)
        told[audience] = (said.title, said.body, said.text)
    # The history is read by operators and by its user, who is the only one named there then.
    title, body, _ = told["operators"]
    return Worded(one.id, title, body, told)
