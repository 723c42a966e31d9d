"""Channels over which nothing arrives are told of over the others, once, and when they are back."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest

from quotabell import log
from quotabell.metrics import Metrics
from quotabell.service.health import ChannelWatch
from quotabell.store.database import Database
from quotabell.store.delivery import DeliveryStore
from quotabell.store.health import HealthStore
from quotabell.store.queries import load
from quotabell.store.subjects import SubjectStore
from tests.support.outbox import Outbox, outbox

MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Scene:
    """A database whose attempts are made up."""

    database: Database
    box: Outbox
    metrics: Metrics = field(default_factory=Metrics)
    said: io.StringIO = field(default_factory=io.StringIO)
    notification: UUID | None = None

    def watch(self) -> ChannelWatch:
        return ChannelWatch(
            HealthStore(self.database),
            SubjectStore(self.database),
            self.metrics,
            log.configure("info", stream=self.said).get_logger(),
            every=0.0,
        )

    async def channels(self, *names: str) -> None:
        for name in names:
            await self.box.connection.execute(
                "insert into channels (name, type, origin) values ($1, 'webhook', 'http://' || $1)",
                name,
            )

    async def browser(self, host: str, key: str = "k1", user: str = "") -> str:
        row = await self.box.subscribe(
            user, {"endpoint": f"https://{host}/{user}{key}", "keys": {}}, key=key
        )
        return str(row)

    async def tried(
        self,
        target: str,
        outcome: str,
        ago: timedelta = timedelta(0),
        reason: str = "server_error",
        origin: str = "",
    ) -> None:
        """An attempt ended so long ago: to a channel by its name, or to a browser."""
        self.notification = self.notification or await self.box.announce()
        channel = "webpush" if origin else "webhook"
        await self.box.connection.execute(
            "with d as (insert into deliveries (notification_id, channel, target, origin, "
            "status, tries, finished_at, expires_at) values ($1, $2, $3, $4, 'failed', 1, now(), "
            "now() + interval '1h') on conflict (notification_id, channel, target) do update "
            "set tries = deliveries.tries + 1 returning id, tries) "
            "insert into attempts (delivery_id, n, fence, worker, started_at, ended_at, outcome, "
            "reason) select id, tries, tries, 'w', now() - $5::interval, now() - $5::interval, "
            "$6, $7 from d",
            *(self.notification, channel, target, origin, ago, outcome),
            "sent" if outcome == "sent" else reason,
        )

    async def looked(self, ago: timedelta = 60 * MINUTE) -> None:
        """The last look at attempts was so long ago; somebody has listened all the time."""
        await self.box.connection.execute(
            "update rounds set attempts_until = now() - $1::interval, heard_until = now(), "
            "next_by = now() + interval '1h'",
            ago,
        )

    async def told(self) -> list[str]:
        rows = await self.box.rows(
            "select data, transition from notification_history where kind = 'channel' "
            "order by created_at, seq, title"
        )
        found = [(json.loads(row["data"]), row["transition"]) for row in rows]
        return [f"{d['subject']}: {d['error'] if t == 'firing' else d['reason']}" for d, t in found]

    async def recipients(self) -> list[str]:
        """Where messages about channels go: names of channels, users of browsers."""
        await DeliveryStore(self.database).enqueue(50)
        rows = await self.box.rows(
            "select case when d.channel = 'webpush' then s.subscription ->> 'endpoint' "
            "else d.target end as target from deliveries d "
            "left join push_subscriptions s on s.id::text = d.target "
            "where d.kind = 'channel' order by 1"
        )
        return [row["target"] for row in rows]


@pytest.fixture
async def scene(any_dsn: str) -> AsyncIterator[Scene]:
    database = Database(
        any_dsn, pool_size=4, prepared_statements=True, log=log.configure("error").get_logger()
    )
    await database.open()
    async with outbox(any_dsn) as box:
        ready = Scene(database, box)
        await ready.looked()
        yield ready
    await database.close()


async def test_a_channel_that_fails_for_long_is_told_once_over_the_others(scene: Scene) -> None:
    await scene.channels("ops", "pager")
    await scene.browser("push.example")
    for ago in (20, 15, 1):
        await scene.tried("ops", "retry", MINUTE * ago, "timeout")
    watch = scene.watch()

    await watch.check()
    await watch.check()
    await scene.watch().check()  # after a restart, or on another replica

    assert await scene.told() == ["webhook ops: timeout"]
    assert await scene.recipients() == ["https://push.example/k1", "pager"]
    assert "a channel does not work" in scene.said.getvalue()
    await watch.measure()
    labels = {"channel": "webhook ops"}
    value = scene.metrics.registry.get_sample_value
    assert value("quotabell_channel_failing", labels) == 1

    await scene.tried("ops", "sent")
    await watch.check()
    await watch.check()

    assert await scene.told() == ["webhook ops: timeout", "webhook ops: works again"]
    await watch.measure()
    assert value("quotabell_channel_failing", labels) == 0


async def test_a_success_in_between_is_no_failure(scene: Scene) -> None:
    await scene.channels("ops", "early", "late", "well")
    for ago in (20, 18, 2):
        await scene.tried("ops", "retry", MINUTE * ago)
    await scene.tried("ops", "sent", 10 * MINUTE)
    await scene.tried("early", "sent", 20 * MINUTE)
    await scene.tried("early", "failed", 14 * MINUTE)
    await scene.tried("late", "failed", 20 * MINUTE)
    await scene.tried("late", "sent", MINUTE)
    await scene.tried("well", "sent", 30 * MINUTE)

    await scene.watch().check()

    assert await scene.told() == []


async def test_what_is_known_survives_between_looks(scene: Scene) -> None:
    """Each look sees only what ended since the one before."""
    await scene.channels("ops", "pager")
    await scene.tried("ops", "sent", 40 * MINUTE)
    await scene.tried("ops", "failed", 20 * MINUTE, "bad_request")
    await scene.tried("pager", "failed", 20 * MINUTE)
    await scene.watch().check()
    await scene.box.connection.execute("delete from attempts")
    await scene.box.connection.execute("delete from channel_health where subject like '% pager'")
    await scene.box.connection.execute("delete from notification_history; delete from alerts")

    await scene.watch().check()

    assert await scene.told() == ["webhook ops: bad_request"]


async def test_of_the_only_channel_there_is_history_log_and_metric(scene: Scene) -> None:
    await scene.channels("ops")
    await scene.tried("ops", "retry", 20 * MINUTE)

    await scene.watch().check()

    assert await scene.recipients() == []
    [row] = await scene.box.rows(
        "select status, error from notification_history where kind = 'channel'"
    )
    assert tuple(row.values()) == ("suppressed", "nobody to tell")
    assert "a channel does not work" in scene.said.getvalue()


async def test_time_in_which_nobody_tried_does_not_count(scene: Scene) -> None:
    await scene.channels("ops")
    await scene.tried("ops", "retry", 20 * MINUTE)
    await scene.box.connection.execute(
        "insert into outages (began, ended) values (now() - interval '19m', now() - interval '9m')"
    )

    await scene.watch().check()
    assert await scene.told() == []

    await scene.box.connection.execute("delete from outages")
    await scene.watch().check()
    assert await scene.told() == ["webhook ops: server_error"]


async def test_our_own_faults_are_not_the_channels(scene: Scene) -> None:
    await scene.channels("ops")
    for reason in ("channel_missing", "database", "channel_removed"):
        await scene.tried("ops", "retry", 20 * MINUTE, reason)
    await scene.tried("ops", "unknown", 20 * MINUTE)

    await scene.watch().check()

    assert await scene.told() == []


async def test_web_push_as_a_whole_is_told_instead_of_its_origins(scene: Scene) -> None:
    await scene.channels("ops")
    for host in ("one.example", "two.example"):
        browser = await scene.browser(host)
        await scene.tried(browser, "retry", 20 * MINUTE, "dns", f"https://{host}")

    await scene.watch().check()

    assert await scene.told() == ["webpush: dns"]
    assert await scene.recipients() == ["ops"]


async def test_an_origin_that_fails_alone_is_told_over_the_other_origins(scene: Scene) -> None:
    bad, good = await scene.browser("bad.example"), await scene.browser("good.example")
    await scene.tried(bad, "retry", 20 * MINUTE, "sender_blocked", "https://bad.example")
    await scene.tried(good, "sent", 2 * MINUTE, origin="https://good.example")

    await scene.watch().check()

    assert await scene.told() == ["webpush https://bad.example: sender_blocked"]
    assert await scene.recipients() == ["https://good.example/k1"]
    await scene.tried(bad, "gone", reason="gone", origin="https://bad.example")
    await scene.watch().check()
    assert (await scene.told())[1:] == ["webpush https://bad.example: works again"]


async def test_a_key_that_is_refused_is_told_to_those_with_another(scene: Scene) -> None:
    old, new = (
        await scene.browser("push.example", "old"),
        await scene.browser("push.example", "new"),
    )
    at = "https://push.example"
    await scene.tried(old, "retry", 20 * MINUTE, "key_refused: BadJwtToken", at)
    await scene.tried(new, "sent", 5 * MINUTE, origin=at)
    await scene.tried(new, "retry", 4 * MINUTE, origin=at)

    await scene.watch().check()

    assert await scene.told() == [f"webpush {at} key old: key_refused: BadJwtToken"]
    assert await scene.recipients() == [f"{at}/new"]


async def test_one_browser_that_cannot_be_reached_is_not_its_origin(scene: Scene) -> None:
    broken = await scene.browser("push.example")
    for reason in ("bad_request", "key_mismatch", "too_large"):
        await scene.tried(broken, "failed", 20 * MINUTE, reason, "https://push.example")

    await scene.watch().check()

    assert await scene.told() == []


async def test_it_ends_with_the_channel_and_does_not_begin_again(scene: Scene) -> None:
    await scene.channels("ops", "pager")
    browser = await scene.browser("push.example")
    await scene.tried("ops", "retry", 20 * MINUTE)
    await scene.tried(browser, "retry", 20 * MINUTE, "timeout", "https://push.example")
    watch = scene.watch()
    await watch.check()
    assert await scene.told() == ["webhook ops: server_error", "webpush: timeout"]

    await scene.box.connection.execute("delete from channels where name = 'ops'")
    await scene.box.connection.execute("update push_subscriptions set is_active = false")
    for _ in range(3):
        await watch.check()

    assert sorted((await scene.told())[2:]) == [
        "webhook ops: channel removed",
        "webpush: nobody subscribed",
    ]


async def test_silence_of_a_channel_is_not_its_recovery(scene: Scene) -> None:
    await scene.channels("ops", "pager")
    await scene.tried("ops", "failed", 20 * MINUTE)
    await scene.watch().check()
    await scene.box.connection.execute(
        "delete from attempts;"
        "update channel_health set failing_since = now() - interval '90d', "
        "failed_at = now() - interval '90d'"
    )

    await scene.watch().check()

    assert await scene.told() == ["webhook ops: server_error"]


async def test_two_that_look_at_once_tell_once(scene: Scene) -> None:
    await scene.channels("ops", "pager")
    await scene.tried("ops", "retry", 20 * MINUTE)

    await asyncio.gather(*(scene.watch().check() for _ in range(4)))
    assert await scene.told() == ["webhook ops: server_error"]

    await scene.tried("ops", "sent")
    await asyncio.gather(*(scene.watch().check() for _ in range(4)))
    assert (await scene.told())[1:] == ["webhook ops: works again"]


async def test_a_look_reads_only_the_blocks_of_late_attempts(scene: Scene) -> None:
    await scene.box.connection.execute(
        "insert into attempts (delivery_id, n, fence, worker, started_at, ended_at, outcome) "
        "select n, 1, 1, 'w', now() - n * interval '1 s', now() - n * interval '1 s', 'sent' "
        "from generate_series(50000, 1, -1) n"
    )
    await scene.box.connection.execute("vacuum analyze attempts")

    plan = await scene.box.rows(
        "explain " + load("health")["note"],
        *(await scene.box.rows("select now(), now() as n"))[0].values(),
    )

    text = "\n".join(str(row["QUERY PLAN"]) for row in plan)
    assert "attempts_started" in text
    assert "Seq Scan on attempts" not in text
