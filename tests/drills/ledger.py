"""The books of a daemon that lives through many days, beside the almanac."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.drills.almanac import DAY, Almanac, State
from tests.support.outbox import Outbox

GROWTH = 1.5  # by chance; samples are taken by the true time
SLACK_ROWS = 20
_TABLES = (
    *("token_usage", "usage_periods", "usage_events", "usage_samples", "usage_burn"),
    *("quota_periods", "alerts", "notification_history", "deliveries", "attempts", "digests"),
)
_ROWS = "select " + ", ".join(f"(select count(*) from {name}) as {name}" for name in _TABLES)
_PARTS = """
    select parent.relname as name, count(*) as n
    from pg_inherits i join pg_class parent on parent.oid = i.inhparent
    where parent.relkind = 'p' group by 1"""
_LOOSE = """
    select c.relname from pg_class c
    where c.relnamespace = 'quotabell_parts'::regnamespace and c.relkind = 'r'
        and not exists (select from pg_inherits i where i.inhrelid = c.oid)"""
_STATES = """
    select id, quota, user_id, period_start, period_end, tokens_used, 'token_usage' as place
    from token_usage
    union all
    select id, quota, user_id, period_start, period_end, tokens_used, 'usage_periods'
    from usage_periods where period_end > $1"""
_OLD = {  # by the setting of retention; each finds the oldest
    "events": "select min(day)::timestamptz from usage_events",
    "samples": "select min(time) from usage_samples",
    "periods": "select min(period_start) from usage_periods",
    "history": "select least((select min(created_at) from notification_history), "
    "(select min(ended_at) from alerts))",
}
_SLACK = {"events": DAY, "samples": 31 * DAY, "periods": 31 * DAY, "history": timedelta(minutes=1)}
_MOVED = """
    select not exists (
        select from token_usage t
        join quota_periods p on p.quota = t.quota and p.period_start <= now()
            and now() < p.period_end and t.period_end < p.period_start)"""
_UNENDED = """
    select a.id from alerts a join token_usage t on t.id = a.state_id
    where a.status = 'firing' and t.period_end <= now()"""
_TOLD = """
    select h.id, h.alert_id, a.state_id, h.user_id, h.kind, h.transition, h.level, h.status,
        a.reason, h.data ? 'repeat' as again, h.data ->> 'quota' as quota
    from notification_history h left join alerts a on a.id = h.alert_id
    where h.created_at >= $1"""
_FIRING = "select id from alerts where status = 'firing'"
_SENT = "select id from deliveries where status = 'sent' and created_at >= $1"


@dataclass(slots=True)
class Ledger:
    """``kept``: days by setting of retention."""

    box: Outbox
    almanac: Almanac
    kept: Mapping[str, int]
    faults: list[str] = field(default_factory=list)
    most: Counter[str] = field(default_factory=Counter)  # rows and partitions
    early: Counter[str] = field(default_factory=Counter)  # the same in the first half
    told: Counter[str] = field(default_factory=Counter)
    _states: dict[UUID, State] = field(default_factory=dict)
    _told: set[UUID] = field(default_factory=set)
    _rung: Counter[tuple[State, int]] = field(default_factory=Counter)
    _begun: set[UUID] = field(default_factory=set)  # alerts
    _ends: Counter[UUID] = field(default_factory=Counter)
    _sent: set[int] = field(default_factory=set)
    _last: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    @property
    def sent(self) -> int:
        return len(self._sent)

    @property
    def figures(self) -> dict[str, Any]:
        most = {name: (self.early[name], count) for name, count in sorted(self.most.items())}
        return {"told": dict(self.told), "at most in the first half, and in all": most}

    def halfway(self) -> None:
        """Half of the time is over."""
        self.early = self.most.copy()

    def grown(self) -> list[str]:
        """What went on growing in the second half, though whatever is kept was so long before."""
        return [
            f"{name} grew from {self.early[name]} to {count}"
            for name, count in self.most.items()
            if count > self.early[name] * GROWTH + SLACK_ROWS
        ]

    async def shown(self, now: datetime) -> None:
        """What is open is that of now; who used something in the last period begins with 0."""
        sql = "select quota, user_id, period_start, tokens_used from current_usage"
        found = sorted(
            (State(r["quota"], r["user_id"], r["period_start"]), r["tokens_used"])
            for r in await self.box.rows(sql)
        )
        users = {state.user for state in self.almanac.used}
        wanted = sorted(s for user in users if (s := self.almanac.current(user, now)))
        self._differ(now, "shown", dict(found), dict(wanted))

    async def compare(self, now: datetime) -> None:
        """What is stored of late, what was told since the last time, and what is too old."""
        await self._compare_states(now)
        await self._follow()
        self._compare_rings(now)
        for row in await self.box.rows(_UNENDED):
            self.faults.append(f"{now}: alert {row['id']} outlived its period")
        await self._measure(now)
        self._last = now

    async def moved(self) -> bool:
        """Whether all that is long over is out of the way."""
        return bool(await self.box.value(_MOVED))

    async def close(self, now: datetime) -> None:
        """Every period that is kept has one row, and whatever rang has ended."""
        oldest = now - self.kept["periods"] * DAY
        places: dict[State, list[str]] = defaultdict(list)
        for row in await self.box.rows(_STATES, oldest):
            places[_state(row)].append(row["place"])
        for state in self.almanac.used:
            if state.start >= oldest and len(places[state]) != 1:
                self.faults.append(f"{state} is in {places[state]}")
        lasting = {row["id"] for row in await self.box.rows(_FIRING)}
        for alert in self._begun:
            if self._ends[alert] + (alert in lasting) != 1:
                self.faults.append(f"alert {alert} ended {self._ends[alert]} times")
        self.faults += await self.box.books()

    async def _compare_states(self, now: datetime) -> None:
        since = now - 5 * DAY
        found: Counter[State] = Counter()
        for row in await self.box.rows(_STATES, since):
            state = _state(row)
            self._states[row["id"]] = state
            if row["period_end"] != self.almanac.end(state):
                self.faults.append(f"{state} ends at {row['period_end']}")
            if row["period_end"] > since:
                found[state] += row["tokens_used"]
        wanted = {s: n for s, n in self.almanac.used.items() if self.almanac.end(s) > since}
        self._differ(now, "stored", dict(found), wanted)

    def _differ(
        self, now: datetime, what: str, found: dict[State, int], wanted: dict[State, int]
    ) -> None:
        for state in sorted({*found, *wanted}):
            if found.get(state) != wanted.get(state):
                self.faults.append(
                    f"{now}: {what} of {state} is {found.get(state)}, not {wanted.get(state)}"
                )

    async def _follow(self) -> None:
        """The books of what was told since, before it is aged out."""
        since = self._last - timedelta(minutes=1)
        for row in await self.box.rows(_TOLD, since):
            # A repeat may have come due since all was sent: the next time sees it.
            if row["id"] not in self._told and not (row["again"] and row["status"] == "pending"):
                self._told.add(row["id"])
                self._note(row)
        self._sent |= {row["id"] for row in await self.box.rows(_SENT, since)}

    def _note(self, row: Mapping[str, Any]) -> None:
        """One message; whether it was sent is known by now."""
        kind, transition = row["kind"], row["transition"]
        self.told[f"{kind} {'repeated' if row['again'] else transition}"] += 1
        if row["alert_id"] is None:
            return  # it tells of others
        # A leap may outrun a repetition: it is then too late, or the end has taken its place.
        if row["status"] != "sent" and not (row["again"] and row["status"] == "suppressed"):
            self.faults.append(f"{row} was not sent")
        if transition == "resolved":
            self._ends[row["alert_id"]] += 1
        if kind == "threshold" and transition == "firing" and not row["again"]:
            self._begun.add(row["alert_id"])
            self._rung[self._states[row["state_id"]], int(row["level"])] += 1
        if kind == "threshold" and transition == "resolved" and row["reason"] != "period over":
            self.faults.append(f"{row} ended otherwise")

    def _compare_rings(self, now: datetime) -> None:
        if self._rung != self.almanac.rings:
            less, more = self.almanac.rings - self._rung, self._rung - self.almanac.rings
            self.faults.append(f"{now}: did not ring {dict(less)}, rang {dict(more)}")

    async def _measure(self, now: datetime) -> None:
        [rows] = await self.box.rows(_ROWS)
        parts = {f"partitions of {r['name']}": r["n"] for r in await self.box.rows(_PARTS)}
        for name, count in {**rows, **parts}.items():
            self.most[name] = max(self.most[name], count)
        for row in await self.box.rows(_LOOSE):
            self.faults.append(f"{now}: partition {row['relname']} is of no table")
        for name, sql in _OLD.items():
            oldest = await self.box.value(sql)
            if oldest is not None and oldest < now - self.kept[name] * DAY - _SLACK[name]:
                self.faults.append(f"{now}: {name} of {oldest} are kept")


def _state(row: Mapping[str, Any]) -> State:
    return State(row["quota"], row["user_id"], row["period_start"])
