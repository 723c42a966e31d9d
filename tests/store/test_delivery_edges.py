"""Edges of delivery: browsers that change hands, ends that come with their beginnings, rows that
others wrote."""

from __future__ import annotations

import asyncpg
import pytest

from quotabell.errors import Unavailable
from quotabell.store.history import HistoryStore
from tests.store.test_delivery import SQL, Replica, box, opened, other, replica  # noqa: F401
from tests.support.outbox import Outbox
from tests.support.postgres import connected

BROWSER = {
    "endpoint": "https://push.example.com/alice",
    "keys": {"p256dh": "p", "auth": "a"},
}


async def test_a_browser_that_changed_hands_is_not_told_of_its_former_user(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
) -> None:
    await box.subscribe("alice", BROWSER)
    await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await replica.enqueue()
    await box.rows("update push_subscriptions set user_id = 'bob'")

    (claimed,) = await replica.claim()

    assert claimed.subscription is None


@pytest.mark.parametrize("user", ["alice", ""])
async def test_the_owner_and_operators_are_told(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
    user: str,
) -> None:
    await box.subscribe(user, BROWSER)
    await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await replica.enqueue()

    (claimed,) = await replica.claim()

    assert claimed.subscription is not None


async def test_what_is_claimed_and_cannot_be_read_is_given_back_at_once(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
) -> None:
    await box.subscribe("alice", BROWSER)
    message = await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await replica.enqueue()
    await box.rows("alter table push_subscriptions rename to away")

    with pytest.raises(Unavailable):
        await replica.claim()

    await box.rows("alter table away rename to push_subscriptions")
    delivery = await box.delivery(message)
    assert (delivery["status"], delivery["tries"]) == ("pending", 0)
    assert await box.attempts(message) == []
    assert len(await replica.claim()) == 1


async def test_what_another_replica_has_claimed_since_is_not_read_as_ones_own(
    any_dsn: str,
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
) -> None:
    await box.subscribe("alice", BROWSER)
    await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await replica.enqueue()
    [mine] = await replica.claim()
    await box.rows("update deliveries set lease_until = now() - interval '1 s'")
    await replica.store.reap()
    [theirs] = await replica.claim()

    async with connected(any_dsn) as connection:
        rows = [
            await connection.fetch(SQL["claimed"], [one.id], [one.fence]) for one in (mine, theirs)
        ]

    assert [len(found) for found in rows] == [0, 1]


async def test_an_end_that_waits_with_its_beginning_is_told_to_the_same(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
) -> None:
    await box.subscribe("alice", BROWSER)
    alert = await box.alert("alice")
    await box.announce("alice", alert=alert, seq=1)
    await box.announce("alice", alert=alert, seq=2, transition="resolved")

    assert [await replica.enqueue() for _ in range(3)] == [1, 1, 0]
    assert await box.value("select count(*) from deliveries") == 2


@pytest.mark.parametrize("data", ["[" * 1500 + "]" * 1500, "1" * 5000])
async def test_what_python_cannot_read_costs_nobody_else(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
    data: str,
) -> None:
    await box.subscribe("alice", BROWSER)
    await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await box.rows("update notification_history set data = $1::jsonb", data)
    await replica.enqueue()

    (claimed,) = await replica.claim()
    (shown,) = await HistoryStore(replica.store.database).listed(None, None, None, 10)

    assert claimed.message.data == {}
    assert shown["data"] is None


async def test_tries_that_somebody_set_back_hold_up_nobody(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
) -> None:
    await box.subscribe("alice", BROWSER)
    failed = await box.announce("alice")
    await replica.enqueue()
    (claimed,) = await replica.claim()
    await replica.tell(claimed, "failed")
    await box.rows("update deliveries set status = 'pending', tries = 0, finished_at = null")
    await box.rows("update notification_history set status = 'pending'")
    await box.announce("alice")
    await replica.enqueue()

    for one in await replica.claim():
        assert await replica.tell(one)

    assert [a["outcome"] for a in await box.attempts(failed)] == ["failed", "sent"]
    assert await box.books(enqueued=2) == []


@pytest.mark.parametrize("created", ["infinity", "-infinity"])
async def test_a_message_from_the_end_of_time_holds_up_nobody(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
    created: str,
) -> None:
    await box.subscribe("alice", BROWSER)
    await box.announce("alice")
    await replica.enqueue()
    await box.rows(f"update notification_history set created_at = '{created}'")
    await box.announce("alice")
    await replica.enqueue()

    claimed = await replica.claim()

    assert len(claimed) == 2
    assert all(0 <= one.age <= 1e9 for one in claimed)


@pytest.mark.parametrize(
    "value",
    [
        "tries = 2147483647",
        "counted = 2147483647",
        "fence = 9223372036854775807",
        "expires_at = 'infinity'",
        "due = '-infinity'",
    ],
)
async def test_what_no_claim_could_work_with_is_refused(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
    value: str,
) -> None:
    await box.subscribe("alice", BROWSER)
    await box.announce("alice")
    await replica.enqueue()

    with pytest.raises(asyncpg.CheckViolationError):
        await box.rows(f"update deliveries set {value}")
