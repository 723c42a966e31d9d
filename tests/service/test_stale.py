"""Sources that stop are told to operators once, and once more when they are back."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from quotabell import log
from quotabell.domain.staleness import Watched
from quotabell.service.silence import Silencer
from quotabell.service.stale import SourceWatch
from quotabell.store.alerts import AlertStore
from quotabell.store.database import Database
from quotabell.store.delivery import DeliveryStore
from quotabell.store.rounds import RoundStore
from quotabell.store.silences import SilenceStore
from quotabell.store.sources import Count, ListedSource, Source, SourceStore
from quotabell.store.staleness import StalenessStore
from quotabell.store.subjects import SubjectStore
from tests.support.outbox import Outbox, outbox

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
DAY = 24 * HOUR
APPS = Source("apps", "", "update")


@dataclass(slots=True)
class Scene:
    """A database whose past is made up: rounds took place all the time, but in ``outages``."""

    database: Database
    box: Outbox
    said: io.StringIO = field(default_factory=io.StringIO)

    async def now(self) -> datetime:
        found: datetime = await self.box.value("select now()")
        return found

    async def listened(self, ago: timedelta = 400 * DAY) -> None:
        """Somebody has listened and watched for so long."""
        await self.box.connection.execute(
            "update rounds set heard_until = now(), next_by = now() + interval '1 minute', "
            "heard_since = now() - $1::interval, watched_since = now() - $1::interval",
            ago,
        )

    async def reported(self, source: Source, *ago: timedelta) -> None:
        """A source reported once at each of these times."""
        now = await self.now()
        for back in ago:
            count = Count(1, now - back, first_event_at=now - back)
            await SourceStore(self.database).add({source: count})

    async def regular(self, source: Source, every: timedelta, silent: timedelta) -> None:
        """A source reported ten times at this pace, and is silent since."""
        await self.reported(source, *(silent + every * n for n in range(9, -1, -1)))

    def watch(self, after: timedelta = HOUR, **options: Any) -> SourceWatch:
        overrides = options.pop("overrides", ())
        return SourceWatch(
            RoundStore(self.database),
            StalenessStore(self.database),
            SubjectStore(self.database),
            log.configure("info", stream=self.said).get_logger(),
            watched=Watched(after, overrides),
            every=5 * SECOND,
            **options,
        )

    async def told(self) -> list[str]:
        """What was announced, in order: the source and that it stopped, or why that is over."""
        rows = await self.box.rows(
            "select data, transition from notification_history order by created_at, seq, title"
        )
        found = [(decoded(row["data"]), row["transition"]) for row in rows]
        return [f"{d['subject']}: {'stopped' if t == 'firing' else d['reason']}" for d, t in found]

    async def source(self, name: str = "apps/update") -> ListedSource:
        found = {s.name: s for s in await SourceStore(self.database).listed(None)}
        return found[name]


def decoded(data: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)
    return found


@pytest.fixture
async def scene(any_dsn: str) -> AsyncIterator[Scene]:
    database = Database(
        any_dsn, pool_size=4, prepared_statements=True, log=log.configure("error").get_logger()
    )
    await database.open()
    async with outbox(any_dsn) as box:
        ready = Scene(database, box)
        await ready.listened()
        yield ready
    await database.close()


async def test_a_regular_source_that_stops_is_told_once_and_again_when_it_is_back(
    scene: Scene,
) -> None:
    await scene.regular(APPS, 10 * MINUTE, 2 * HOUR)
    watch = scene.watch(HOUR / 2)

    await watch.check()
    await watch.check()
    await scene.watch(HOUR / 2).check()  # another replica

    assert await scene.told() == ["apps/update: stopped"]
    [row] = await scene.box.rows("select * from notification_history")
    facts = decoded(row["data"])
    assert (row["kind"], row["user_id"], row["level"]) == ("stale", "", None)
    assert facts["source"] == "apps/update"
    assert (facts["usualPause"], facts["allowed"]) == (600, 1800)
    seen = datetime.fromisoformat(facts["lastEventAt"])
    assert seen == (await scene.source()).last_event_at
    assert (await scene.source()).stale_since is not None

    await scene.reported(APPS, SECOND)
    await watch.check()
    await watch.check()

    assert await scene.told() == ["apps/update: stopped", "apps/update: reports again"]
    assert (await scene.source()).stale_since is None
    over = decoded((await scene.box.rows("select data from alerts"))[0]["data"])
    assert 2 * 3600 - 10 < over["silentFor"] < 2 * 3600 + 10
    assert over["lastEventAt"] == facts["lastEventAt"]


async def test_what_reported_once_or_in_a_burst_never_stops(scene: Scene) -> None:
    await scene.reported(Source("once", "", "update"), 100 * DAY)
    await scene.reported(Source("twice", "", "update"), 100 * DAY, 99 * DAY)
    await scene.regular(Source("burst", "", "update"), SECOND, 5 * DAY)

    await scene.watch(HOUR).check()

    assert await scene.told() == []


async def test_a_source_is_not_stale_before_its_own_rhythm_says_so(scene: Scene) -> None:
    await scene.regular(Source("late", "", "update"), 6 * HOUR, 8 * HOUR)
    await scene.regular(Source("stopped", "", "update"), 6 * HOUR, 10 * HOUR)

    await scene.watch(HOUR).check()

    assert await scene.told() == ["stopped/update: stopped"]


async def test_a_pause_is_usual_the_second_time(scene: Scene) -> None:
    """Office hours: reports every ten minutes, and 15 hours of night."""
    day = [n * 10 * MINUTE for n in range(54, -1, -1)]
    nights = [DAY * n + HOUR * 15 for n in (3, 2, 1, 0)]
    for night in nights[:2]:
        await scene.reported(APPS, *(night + at for at in day))
    await scene.watch(HOUR).check()
    assert await scene.told() == []  # one night so far, so it must be regular anew
    await scene.reported(APPS, *(nights[2] + at for at in day))
    await scene.reported(APPS, *(nights[3] + at for at in day))

    await scene.watch(HOUR).check()

    assert await scene.told() == []
    [row] = await scene.box.rows("select longest_pause, second_pause from sources")
    assert {round(p / HOUR) for p in row.values()} == {15}


async def test_what_had_stopped_before_sources_were_watched_is_no_news(scene: Scene) -> None:
    await scene.regular(Source("old", "", "update"), MINUTE, 5 * DAY)
    await scene.regular(Source("new", "", "update"), MINUTE, 2 * MINUTE + SECOND)
    await scene.box.connection.execute("update rounds set watched_since = null")
    watch = scene.watch(2 * MINUTE)

    await watch.check()
    assert await scene.told() == []
    await scene.box.connection.execute("update rounds set watched_since = now() - interval '1m'")
    await watch.check()

    assert await scene.told() == ["new/update: stopped"]


async def test_an_outage_of_ours_makes_no_source_stale(scene: Scene) -> None:
    """For five hours nobody listened; before that all was well."""
    await scene.box.connection.execute(
        "update rounds set heard_until = now() - interval '5h', next_by = now() - interval '299m'"
    )
    for n in range(3):
        await scene.regular(Source(f"s{n}", "", "update"), 10 * MINUTE, 5 * HOUR + MINUTE)
    watch = scene.watch(HOUR / 2, patience=MINUTE)

    await watch.listening()
    await watch.check()

    assert await scene.told() == []
    assert "nobody listened" in scene.said.getvalue()
    [outage] = await scene.box.rows("select ended - began as length from outages")
    assert abs(outage["length"] - 5 * HOUR) < MINUTE

    # Half an hour later one is back, and the others have had the time for it.
    await scene.box.connection.execute(
        "update rounds set heard_since = heard_since - interval '30m';"
        "update outages set began = began - interval '30m', ended = ended - interval '30m';"
        "update sources set last_event_at = last_event_at - interval '30m', "
        "reported_since = reported_since - interval '30m'"
    )
    await scene.reported(Source("s0", "", "update"), SECOND)
    await watch.check()
    assert await scene.told() == ["s1/update: stopped", "s2/update: stopped"]
    # The outage is no pause of the one that is back.
    [row] = await scene.box.rows("select longest_pause from sources where name = 's0/update'")
    assert row["longest_pause"] < HOUR


async def test_an_outage_that_no_round_has_seen_yet_counts_as_well(scene: Scene) -> None:
    await scene.regular(APPS, MINUTE, 5 * HOUR)
    await scene.box.connection.execute(
        "update rounds set heard_until = now() - interval '5h', next_by = now() - interval '299m'"
    )

    await scene.reported(APPS, timedelta(0))

    [row] = await scene.box.rows("select longest_pause from sources")
    assert row["longest_pause"] < 2 * MINUTE


@pytest.mark.parametrize(
    ("after", "overrides", "reason"),
    [
        (timedelta(0), (), "not watched"),
        (HOUR, (("apps/*", timedelta(0)),), "not watched"),
        (HOUR, (("apps/*", DAY),), "longer silence allowed"),
        (HOUR, (("local/*", DAY),), None),
    ],
)
async def test_it_ends_when_the_configuration_allows_the_silence(
    scene: Scene, after: timedelta, overrides: Any, reason: str | None
) -> None:
    await scene.regular(APPS, 30 * MINUTE, 2 * HOUR)
    watch = scene.watch(HOUR)
    await watch.check()

    watch.replace(Watched(after, overrides))
    await watch.check()
    await watch.check()

    ends = [] if reason is None else [f"apps/update: {reason}"]
    assert await scene.told() == ["apps/update: stopped", *ends]


async def test_it_ends_when_the_source_is_gone(scene: Scene) -> None:
    await scene.regular(APPS, 30 * MINUTE, 2 * HOUR)
    watch = scene.watch(HOUR)
    await watch.check()

    await scene.box.connection.execute("delete from sources")
    await watch.check()

    assert await scene.told() == ["apps/update: stopped", "apps/update: source removed"]


async def test_what_reports_meanwhile_is_not_told(scene: Scene) -> None:
    await scene.regular(APPS, 30 * MINUTE, 2 * HOUR)
    last = (await scene.source()).last_event_at
    await scene.reported(APPS, timedelta(0))

    fired = await SubjectStore(scene.database).fire("stale", {"apps/update": {"lastEventAt": last}})

    assert fired == []
    assert await scene.told() == []


async def test_two_that_evaluate_at_once_tell_once(scene: Scene) -> None:
    for n in range(5):
        await scene.regular(Source(f"s{n}", "", "update"), 30 * MINUTE, 2 * HOUR)

    await asyncio.gather(*(scene.watch(HOUR).check() for _ in range(4)))

    assert len(await scene.told()) == 5
    await scene.reported(Source("s1", "", "update"), timedelta(0))
    await asyncio.gather(*(scene.watch(HOUR).check() for _ in range(4)))
    assert (await scene.told())[5:] == ["s1/update: reports again"]


async def test_only_operators_and_channels_for_it_are_told(scene: Scene) -> None:
    """Not even the user whose token the source has."""
    box = scene.box
    for user in ("", "alice"):
        await box.subscribe(user, {"endpoint": f"https://push.example/{user}", "keys": {}})
    await box.connection.execute(
        "insert into channels (name, type, origin, kind, provider, min_percentage) values "
        "('all', 'webhook', 'http://a', null, null, 95), "
        "('quotas', 'webhook', 'http://b', '^threshold$', null, 0), "
        "('openai', 'webhook', 'http://c', null, '^openai$', 0)"
    )
    await scene.regular(Source("alice-app", "alice", "update"), 30 * MINUTE, 2 * HOUR)
    await scene.watch(HOUR).check()

    await DeliveryStore(scene.database).enqueue(10)

    rows = await box.rows(
        "select channel, coalesce(p.user_id, target) as who from deliveries d "
        "left join push_subscriptions p on p.id::text = d.target order by channel"
    )
    assert [tuple(row.values()) for row in rows] == [("webhook", "all"), ("webpush", "")]


async def test_a_silence_of_the_kind_keeps_it_back_and_its_end_tells_it(scene: Scene) -> None:
    box = scene.box
    await box.subscribe("", {"endpoint": "https://push.example/1", "keys": {}})
    await box.connection.execute(
        "insert into silences (matchers, kind, ends_at, author, reason) "
        "values ('{}', '^stale$', now() + interval '1h', 'ops', 'works')"
    )
    await scene.regular(APPS, 30 * MINUTE, 2 * HOUR)
    await scene.watch(HOUR).check()
    await DeliveryStore(scene.database).enqueue(10)
    assert await box.statuses() == {"suppressed": 1}

    await box.connection.execute("delete from silences")
    quiet = log.configure("error").get_logger()
    await Silencer(SilenceStore(scene.database), quiet, keep=DAY).end()
    await DeliveryStore(scene.database).enqueue(10)

    assert await scene.told() == ["apps/update: stopped"] * 2
    assert await box.statuses() == {"suppressed": 1, "pending": 1}


async def test_a_lost_message_is_written_again_with_its_facts(scene: Scene) -> None:
    await scene.regular(APPS, 30 * MINUTE, 2 * HOUR)
    await scene.watch(HOUR).check()
    [before] = await scene.box.rows("select title, body, data from notification_history")
    await scene.box.connection.execute("delete from notification_history")

    store = AlertStore(scene.database)
    assert await store.reannounce(10) == 1
    await store.ring_due(10)
    await store.end_orphans(10)

    [after] = await scene.box.rows("select title, body, data from notification_history")
    assert after == before
