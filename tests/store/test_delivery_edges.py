"""Edges of delivery: browsers that change hands, ends that come with their beginnings, rows that
others wrote."""

from __future__ import annotations

import pytest

from quotabell.store.history import HistoryStore
from tests.store.test_delivery import Replica, box, opened, other, replica  # noqa: F401
from tests.support.outbox import Outbox

BROWSER = {
    "endpoint": "https://push.example.com/alice",
    "keys": {"p256dh": "p", "auth": "a"},
}


async def test_a_browser_that_changed_hands_is_not_told_of_its_former_user(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
):
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
):
    await box.subscribe(user, BROWSER)
    await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await replica.enqueue()

    (claimed,) = await replica.claim()

    assert claimed.subscription is not None


async def test_an_end_that_waits_with_its_beginning_is_told_to_the_same(
    box: Outbox,  # noqa: F811
    replica: Replica,  # noqa: F811
):
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
):
    await box.subscribe("alice", BROWSER)
    await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await box.rows("update notification_history set data = $1::jsonb", data)
    await replica.enqueue()

    (claimed,) = await replica.claim()
    (shown,) = await HistoryStore(replica.store.database).listed(None, None, None, 10)

    assert claimed.message.data == {}
    assert shown["data"] is None
