"""Which of the operator's channels a message goes to, and what becomes of their deliveries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from quotabell.domain.matching import Match
from quotabell.store.channels import ChannelRow, ChannelStore
from tests.store.test_delivery import Replica, browser, opened
from tests.support.outbox import Outbox, outbox

ALERT = {"quota": "daily", "provider": "openai", "model": "gpt-5", "percentage": 91.5}
AT = "https://ops.example"


@pytest.fixture
async def box(any_dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(any_dsn) as box:
        yield box


@pytest.fixture
async def replica(any_dsn: str) -> AsyncIterator[Replica]:
    async with opened(any_dsn) as store:
        yield Replica(store)


@pytest.fixture
def channels(replica: Replica) -> ChannelStore:
    return ChannelStore(replica.store.database)


def row(
    name: str = "ops", type: str = "webhook", origin: str = AT, least: float = 0.0, **when: Any
) -> ChannelRow:
    return ChannelRow(name, type, origin, Match(**when), least)


async def told(box: Outbox) -> set[tuple[str, str]]:
    """Channel and target of every delivery."""
    return {(r["channel"], r["target"]) for r in await box.rows("select * from deliveries")}


async def fire(box: Outbox, user: str = "alice", seq: int = 1, **more: Any) -> UUID:
    alert = more.pop("alert", None) or await box.alert(user)
    return await box.announce(user, alert=alert, seq=seq, data=ALERT | more)


async def test_a_message_goes_to_browsers_and_to_every_channel_that_wants_it(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    own = await box.subscribe("alice", browser("alice"))
    await channels.put(
        [row(), row("am", "alertmanager", "http://am:9093"), row("no", kind="stale")]
    )
    message = await fire(box)

    await replica.enqueue()

    deliveries = await box.rows("select * from deliveries order by channel")
    assert [(d["channel"], d["target"], d["origin"]) for d in deliveries] == [
        ("alertmanager", "am", "http://am:9093"),
        ("webhook", "ops", AT),
        ("webpush", str(own), "https://push.example"),
    ]
    assert {d["notification_id"] for d in deliveries} == {message}
    assert len({d["lane"] for d in deliveries}) == 3
    assert await box.books(enqueued=3) == []


@pytest.mark.parametrize(
    ("when", "goes"),
    [
        ({"provider": "open*", "model": "gpt-?", "user": "al[i]ce", "quota": "daily"}, True),
        ({"kind": ["forecast", "threshold"]}, True),
        ({"provider": "Open*"}, False),
        ({"model": "gpt"}, False),
        ({"user": "bob"}, False),
        ({"user": ""}, False),
        ({"quota": "weekly"}, False),
        ({"least": 90}, True),  # the level is 90
        ({"least": 91.5}, True),  # and what is used
        ({"least": 91.6}, False),
    ],
)
async def test_a_channel_gets_what_its_filter_says(
    when: dict[str, Any], goes: bool, box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await channels.put([row(**when)])
    await fire(box)

    await replica.enqueue()

    assert (await told(box) == {("webhook", "ops")}) is goes


async def test_the_end_of_an_alert_goes_only_where_the_alert_went(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await channels.put([row(), row("high", least=99), row("later", kind="stale")])
    alert = await box.alert("alice")
    await fire(box, alert=alert)
    await replica.enqueue()
    [sent] = await replica.claim()
    assert await replica.tell(sent)
    await channels.put([row(least=99), row("high"), row("later")])
    await box.announce(
        "alice", alert=alert, seq=2, transition="resolved", data=ALERT | {"percentage": 10}
    )

    await replica.enqueue()

    rows = await box.rows("select target from deliveries where resolves")
    assert [r["target"] for r in rows] == ["ops"]


async def test_a_test_goes_to_the_channels_it_names_whatever_their_filter(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    operator = str(await box.subscribe("", browser("operator")))
    await channels.put([row(user="bob", least=99), row("am", "alertmanager")])

    async def tested(*names: str) -> set[str]:
        await box.connection.execute("delete from notification_history")
        data = {"channels": list(names)} if names else {}
        await box.announce("", transition="test", data=data)
        await replica.enqueue()
        return {target for _, target in await told(box)}

    assert await tested() == {operator}
    assert await tested("ops") == {"ops"}
    assert await tested("webpush", "am") == {operator, "am"}
    assert await tested("*") == {operator, "ops", "am"}


async def test_what_a_user_has_sent_again_goes_to_no_channel_and_no_end_to_alertmanager(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await channels.put([row(), row("am", "alertmanager")])
    await box.announce("alice", data=ALERT | {"ownOnly": True, "resendOf": "x"})
    await replica.enqueue()
    assert await told(box) == set()

    await box.announce("alice", data=ALERT | {"ownOnly": False, "resendOf": "x"})
    await replica.enqueue()
    assert await told(box) == {("webhook", "ops")}


@pytest.mark.parametrize("odd", ["text", {"percentage": "many"}, {"quota": [1]}, [1], None])
async def test_odd_data_of_a_message_keeps_nothing_from_being_told(
    odd: Any, box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await channels.put([row(least=10), row("high", least=99)])
    message = await box.announce("alice")
    await box.connection.execute(
        "update notification_history set data = $2 where id = $1", message, json.dumps(odd)
    )

    await replica.enqueue()

    assert await told(box) == {("webhook", "ops")}


async def test_what_is_open_for_a_removed_channel_fails_with_a_reason(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await channels.put([row(), row("gone")])
    message = await fire(box)
    await replica.enqueue()
    claimed = {c.target: c for c in await replica.claim()}
    await replica.store.release([claimed["gone"]])

    await channels.put([])

    rows = {r["target"]: r for r in await box.rows("select * from deliveries")}
    assert (rows["gone"]["status"], rows["gone"]["reason"]) == ("failed", "channel_removed")
    assert rows["ops"]["status"] == "leased", "its sender will see"
    await replica.store.release([claimed["ops"]])
    [again] = await replica.claim()
    assert not again.configured
    assert await replica.tell(again, "failed")
    assert await box.value("select status from notification_history where id = $1", message) == (
        "failed"
    )
    assert await box.books(enqueued=2) == []


async def test_a_channel_that_moves_takes_its_open_deliveries_along(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await channels.put([row()])
    message = await fire(box)
    await replica.enqueue()
    await box.connection.execute("update deliveries set due = now() + interval '1 h'")

    await channels.put([row(origin="https://new.example")])

    [claimed] = await replica.claim()
    assert claimed.origin == "https://new.example"
    assert (await box.delivery(message))["status"] == "leased"


async def test_what_is_in_force_already_is_not_written_again(
    box: Outbox, channels: ChannelStore
) -> None:
    rows = [row("b", least=1), row("a", user="", kind=["stale", "threshold"])]
    await channels.put(rows)
    before = await box.rows("select xmin::text, name from channels order by name")

    await channels.put(rows[::-1])

    assert await box.rows("select xmin::text, name from channels order by name") == before
    assert await channels.names() == ["a", "b"]


async def test_a_pattern_that_is_none_is_refused_and_costs_no_message(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await channels.put([row()])
    with pytest.raises(asyncpg.PostgresError):
        await box.connection.execute("update channels set model = '('")
    await fire(box)

    await replica.enqueue()

    assert await told(box) == {("webhook", "ops")}


async def test_a_user_sees_nothing_of_the_operators_channels(
    box: Outbox, replica: Replica, channels: ChannelStore
) -> None:
    await box.subscribe("alice", browser("alice"))
    await channels.put([row()])
    await fire(box)
    await replica.enqueue()
    await replica.claim()

    async with replica.store.database.acting_for("alice") as connection:
        seen = await connection.fetch("select channel from deliveries")
        tried = await connection.fetch("select * from attempts")

    assert [r["channel"] for r in seen] == ["webpush"]
    assert len(tried) == 1
