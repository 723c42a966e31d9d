"""Rounds of evaluation: one replica at a time, and whatever was lost is put right by level."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from quotabell import log
from quotabell.config import Config
from quotabell.errors import Refused, Unavailable
from quotabell.metrics import Metrics
from quotabell.service import ring
from quotabell.service.counting import Counting
from quotabell.service.evaluate import LEASE, Evaluator, Step
from quotabell.service.mirror import Mirror
from quotabell.service.ring import Ringer
from quotabell.store.alerts import AlertStore, Rung
from quotabell.store.channels import ChannelStore
from quotabell.store.database import Database
from quotabell.store.leases import LeaseStore
from quotabell.store.quotas import QuotaStore
from quotabell.store.settings import SettingsStore
from tests.http.client import serving, snapshot
from tests.support.bell import Bell, bell
from tests.support.daemon import configure
from tests.support.waiting import eventually

LOG = log.configure("warning", "logfmt").get_logger()


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn, pool_size=4, prepared_statements=True, log=LOG)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[Database]:
    async with opened(dsn) as ready:
        yield ready


def replica(
    pool: Database,
    name: str = "one",
    steps: Sequence[Step] = (),
    *,
    everywhere: Sequence[Step] = (),
    every: float = 5.0,
    ended: Callable[[bool], None] = lambda well: None,
) -> Evaluator:
    return Evaluator(
        LeaseStore(pool),
        Metrics(),
        LOG,
        instance=name,
        every=every,
        steps=steps,
        everywhere=everywhere,
        ended=ended,
    )


def ringing(pool: Database, name: str = "one") -> Evaluator:
    """A replica that rings."""
    ringer = Ringer(AlertStore(pool), Metrics(), LOG)
    return replica(pool, name, [ringer.rearm, ringer.ring_due, ringer.make_good])


class Counter:
    """A step that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1


# --- the lease -----------------------------------------------------------------------------


async def test_one_replica_evaluates_and_another_takes_over(pool: Database) -> None:
    first, second = Counter(), Counter()
    one, two = replica(pool, "one", [first]), replica(pool, "two", [second])

    for _ in range(2):
        await one.round()
        await two.round()
    assert (first.calls, second.calls) == (2, 0)
    assert (one.leading, two.leading) == (True, False)

    await one.release()
    await two.round()
    await one.round()
    assert (first.calls, second.calls) == (2, 1)
    assert (one.leading, two.leading) == (False, True)


async def test_a_replica_that_vanished_is_replaced_when_its_lease_has_run_out(
    pool: Database,
) -> None:
    step = Counter()
    await replica(pool, "one").round()
    two = replica(pool, "two", [step])
    await two.round()
    assert step.calls == 0

    await pool.execute("update leases set expires_at = now() - interval '1 ms'")
    await two.round()

    assert step.calls == 1


async def test_a_restarted_daemon_takes_its_own_lease_back_at_once(pool: Database) -> None:
    step = Counter()
    await replica(pool, "one").round()

    await replica(pool, "one", [step]).round()

    assert step.calls == 1


async def test_the_lease_is_renewed_after_the_round_only_and_for_ten_seconds(
    pool: Database,
) -> None:
    expires = "select expires_at from leases where name = $1"
    seen = []

    async def look() -> None:
        seen.append((await pool.fetch(expires, LEASE))[0][0])

    one = replica(pool, steps=[look, look])
    await one.round()
    after = (await pool.fetch(expires, LEASE))[0][0]

    assert seen[0] == seen[1] < after
    now = (await pool.fetch("select now()"))[0][0]
    assert after - now <= timedelta(seconds=10)


async def test_steps_for_everywhere_need_no_lease(pool: Database) -> None:
    await replica(pool, "one").round()
    everywhere = Counter()

    await replica(pool, "two", everywhere=[everywhere]).round()

    assert everywhere.calls == 1


@pytest.mark.parametrize("error", [Unavailable, Refused])
async def test_a_failing_step_keeps_no_other_from_its_work(
    pool: Database, error: type[Exception]
) -> None:
    async def fail() -> None:
        raise error("on purpose")

    after = Counter()
    one = replica(pool, steps=[fail, after])

    await one.round()

    assert after.calls == 1
    assert one.leading


async def test_only_a_round_of_the_holder_whose_steps_all_went_well_is_a_good_one(
    pool: Database,
) -> None:
    faults: list[Exception] = []

    async def step() -> None:
        if faults:
            raise faults.pop()

    heard: dict[str, list[bool]] = {"one": [], "two": []}
    one = replica(pool, "one", [step, Counter()], ended=heard["one"].append)
    two = replica(pool, "two", [step], everywhere=[step], ended=heard["two"].append)

    await one.round()
    await two.round()
    faults.append(Unavailable("on purpose"))
    await one.round()
    await one.round()
    await one.release()
    faults.append(Refused("on purpose"))
    await two.round()
    await two.round()

    assert heard == {"one": [True, False, True], "two": [False, False, True]}


async def test_a_round_without_a_database_is_no_good_one(dsn: str) -> None:
    heard: list[bool] = []
    async with opened(dsn) as pool:
        evaluator = replica(pool, ended=heard.append, every=0.01)
        await evaluator.round()
    async with running(evaluator):  # its connections are closed now
        await eventually(lambda: False in heard)

    assert heard[0] is True
    assert set(heard[1:]) == {False}


# --- when rounds begin ---------------------------------------------------------------------


@contextlib.asynccontextmanager
async def running(evaluator: Evaluator) -> AsyncIterator[None]:
    task = asyncio.create_task(evaluator.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_not_done_goes_on_without_the_rest_of_the_round(pool: Database) -> None:
    work = list(range(50))

    async def some() -> bool:
        work.pop()
        return bool(work)

    rest = Counter()
    async with running(replica(pool, steps=[rest, some], every=60.0)):
        await eventually(lambda: not work, timeout=20)

    assert rest.calls == 1


async def test_what_was_not_done_does_not_put_off_rounds(pool: Database) -> None:
    async def never_done() -> bool:
        return True

    rest = Counter()
    async with running(replica(pool, steps=[rest, never_done], every=0.1)):
        await eventually(lambda: rest.calls > 3, timeout=20)


async def test_a_hint_begins_a_round_at_once(pool: Database) -> None:
    step = Counter()
    evaluator = replica(pool, steps=[step], every=60.0)
    async with running(evaluator):
        await eventually(lambda: step.calls == 1)

        evaluator.wake()

        await eventually(lambda: step.calls == 2, timeout=5)


async def test_a_hint_during_a_round_is_not_lost(pool: Database) -> None:
    step = Counter()

    async def wake_once() -> None:
        if step.calls == 1:
            evaluator.wake()

    evaluator = replica(pool, steps=[step, wake_once], every=60.0)
    async with running(evaluator):
        await eventually(lambda: step.calls == 2, timeout=5)


async def test_what_did_not_fit_into_a_round_goes_on_at_once(pool: Database) -> None:
    calls = 0

    async def busy() -> bool:
        nonlocal calls
        calls += 1
        return calls < 4

    async with running(replica(pool, steps=[busy], every=60.0)):
        await eventually(lambda: calls == 4, timeout=5)


async def test_rounds_go_on_after_the_database_was_away(pool: Database) -> None:
    step = Counter()
    await pool.execute("alter table leases rename to gone")
    async with running(replica(pool, steps=[step], every=0.05)):
        await asyncio.sleep(0.2)
        assert step.calls == 0

        await pool.execute("alter table gone rename to leases")

        await eventually(lambda: step.calls > 1, timeout=5)


class Endless(AlertStore):
    """Always more to do."""

    async def ring_due(self, limit: int, skipped: Collection[UUID] = ()) -> Rung:
        return Rung(limit, limit, limit)

    async def rearm(self, batch: int) -> int | None:
        return batch


async def test_a_step_takes_its_share_of_the_time_only(
    pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "SHARE", 0.1)
    ringer = Ringer(Endless(pool), Metrics(), LOG)
    started = perf_counter()

    assert await ringer.rearm()
    assert await ringer.ring_due()

    assert perf_counter() - started < 2


# --- the level under the edge --------------------------------------------------------------

DISABLE = "alter table token_usage disable trigger quotabell_ring"
ANNOUNCED = """
select count(*) from notification_history h join alerts a on a.id = h.alert_id
where a.status = 'firing' and h.transition = 'firing'
"""


NOTHING = "select 1"
FAULTS = {
    "nothing goes wrong": (NOTHING, NOTHING),
    "the trigger is disabled": (DISABLE, NOTHING),
    "the rows are replicated": ("set session_replication_role = replica", NOTHING),
    "the alert is deleted": (NOTHING, "delete from alerts"),
    "the message is deleted": (NOTHING, "delete from notification_history"),
    "the message is deleted while it is being delivered": (
        NOTHING,
        "update notification_history set enqueued_at = now(); delete from notification_history",
    ),
    "the alert and its message are deleted": (
        NOTHING,
        "truncate alerts, notification_history cascade",
    ),
    "the state no longer claims its alert": (
        NOTHING,
        "update token_usage set resolve_at = '-infinity'",
    ),
    "ring fails": ("alter table alerts rename to gone", "alter table gone rename to alerts"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_within_two_rounds_it_has_rung_exactly_once(any_database: Any, fault: str) -> None:
    """All replicas are stopped while usage crosses 90 % and something goes wrong."""
    before, after = FAULTS[fault]
    async with bell(any_database.admin_dsn) as admin, opened(any_database.dsn) as pool:
        await admin.execute(before)
        state = await admin.report(95)
        await admin.execute(after)

        one, two = ringing(pool, "one"), ringing(pool, "two")
        for evaluator in (one, two, one, two):
            await evaluator.round()

        assert await admin.level(state) == 90
        assert await admin.value(ANNOUNCED) == 1
        for _ in range(2):
            await one.round()
        assert await admin.value(ANNOUNCED) == 1
        assert await admin.value("select count(*) from alerts") == 1


REFUSE = """
create function refuse() returns trigger language plpgsql as $$
begin raise exception 'no alert of this'; end $$;
create trigger refuse before insert on alerts
for each row when (new.provider = 'bad') execute function refuse()
"""


async def test_states_that_cannot_be_rung_keep_no_other_from_it(
    dsn: str, pool: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "RING_BATCH", 10)
    async with bell(dsn) as it:
        await it.execute(REFUSE)
        await it.execute(DISABLE)
        bad = [await it.report(95, provider="bad", model=f"{n}") for n in range(35)]
        good = await it.report(95)
        replica = ringing(pool)
        await replica.round()
        assert await it.level(good) == 90

        later = await it.report(95, model="later")
        await replica.round()
        assert await it.level(later) == 90

        await it.execute("drop trigger refuse on alerts")
        await replica.round()
        assert {await it.level(state) for state in bad} == {90}


async def test_a_fall_that_the_trigger_missed_resolves(dsn: str, pool: Database) -> None:
    async with bell(dsn) as it:
        fallen, unknown = await it.report(95), await it.report(95, model="other")
        await it.execute(DISABLE)
        await it.report(5)
        await it.report(95, None, model="other")

        await ringing(pool).round()

        assert await it.transitions(fallen) == ["90", "fell"]
        assert await it.transitions(unknown) == ["90", "limit unknown"]


async def test_a_message_that_was_sent_is_not_written_again(dsn: str, pool: Database) -> None:
    async with bell(dsn) as it:
        for model, status in enumerate(("sent", "failed", "suppressed")):
            await it.report(95, model=str(model))
            await it.execute(
                "update notification_history set status = $1 where status = 'pending'", status
            )
        await it.execute("delete from notification_history")

        await ringing(pool).round()

        assert await it.transitions() == []


async def test_an_alert_ends_when_its_state_is_deleted(dsn: str, pool: Database) -> None:
    async with bell(dsn) as it:
        state = await it.report(95)
        await it.execute("delete from token_usage")

        for _ in range(2):
            await ringing(pool).round()

        assert await it.transitions(state) == ["90", "usage removed"]
        again = await it.report(95)
        assert await it.transitions(again) == ["90"]


@pytest.mark.parametrize("gone", [False, True], ids=["its state remains", "its state is gone"])
async def test_a_lost_resolution_is_told_again(dsn: str, pool: Database, gone: bool) -> None:
    async with bell(dsn) as it:
        state = await it.report(95)
        if gone:
            await it.execute("delete from token_usage")
            await ringing(pool).round()
        else:
            await it.report(5)
        await it.execute("delete from notification_history where transition = 'resolved'")

        for _ in range(2):
            await ringing(pool).round()

        assert await it.transitions(state) == ["90", "usage removed" if gone else "fell"]


async def test_one_bad_state_costs_the_others_nothing(dsn: str, pool: Database) -> None:
    async with bell(dsn) as it:
        await it.execute(DISABLE)
        states = [await it.report(95, model=f"m{i}") for i in range(5)]
        await it.execute("alter table alerts add constraint test check (model <> 'm0') not valid")

        await ringing(pool).round()

        assert [await it.transitions(s) for s in states] == [[], *[["90"]] * 4]


# --- never at the cost of usage ------------------------------------------------------------


def every(seconds: float) -> dict[str, Any]:
    return {"alerts": {"evaluate_every": f"{int(seconds * 1000)}ms"}}


@pytest.fixture
def config(tmp_path: Path, dsn: str) -> Config:
    return configure(tmp_path, dsn, **every(0.2))


@pytest.mark.parametrize(
    "table", ["notification_history", "alerts", "token_thresholds", "settings", "quotas"]
)
async def test_a_report_is_stored_whatever_ringing_lacks(
    config: Config, dsn: str, table: str
) -> None:
    async with serving(config) as client, bell(dsn) as it:
        await it.execute(f"alter table {table} rename to gone")
        reply = await client.update([snapshot(tokensUsed=9500), snapshot(model="x", tokensUsed=1)])
        assert [data["percentage"] for data in reply.data] == [95, 0.01]
        await asyncio.sleep(0.5)
        kept = "gone" if table == "alerts" else "alerts"
        assert await it.value(f"select count(*) from {kept}") == 0

        await it.execute(f"alter table gone rename to {table}")

        await eventually(it.transitions, timeout=5)
        await asyncio.sleep(0.5)
        assert await it.transitions() == ["90"]


@pytest.mark.parametrize(
    "lock",
    [
        "lock table notification_history",
        "lock table token_thresholds",
        "lock table settings",
        "lock table quotas",
        "lock table alerts in share mode",
        "select from alerts for update",
    ],
)
async def test_a_report_is_stored_in_time_whoever_holds_its_alert(
    config: Config, dsn: str, lock: str
) -> None:
    reports = [snapshot(model=f"m{i}", tokensUsed=9500) for i in range(50)]
    async with serving(config) as client, bell(dsn) as it:
        await client.update([r | {"tokensUsed": 8000} for r in reports])
        holding = it.connection.transaction()
        await holding.start()
        await it.execute(lock)
        started = perf_counter()

        reply = await client.update(reports)

        assert reply.status == 200
        assert perf_counter() - started < 7
        await holding.rollback()
        await eventually(lambda: _heard(it, 100), timeout=10)


async def _heard(it: Bell, messages: int) -> bool:
    return sorted(await it.transitions()) == sorted(["75", "90"] * (messages // 2))


# --- hints, reload -------------------------------------------------------------------------


async def test_a_threshold_below_the_present_level_rings_at_once(tmp_path: Path, dsn: str) -> None:
    """The daemon hears of it; its next round by itself is far away."""
    async with serving(configure(tmp_path, dsn, **every(60))) as client, bell(dsn) as it:
        await client.update(snapshot(tokensUsed=6000))
        await eventually(lambda: client.metric("quotabell_listener_up"))

        await it.threshold(50)
        await eventually(it.transitions, timeout=5)
        reply = await client.post(
            "/api/token-monitor/thresholds", json={"thresholdPercentage": 55, "provider": "grok"}
        )
        assert reply.status == 201

        await eventually(lambda: _is(it, ["50", "55"]), timeout=5)
        assert await client.metric("quotabell_rearm_pending") == 0


async def test_without_listening_it_rings_in_the_next_round(tmp_path: Path, dsn: str) -> None:
    silent = {"database": {"url": dsn, "listen_url": "off"}}
    async with serving(configure(tmp_path, dsn, **every(0.3), **silent)) as client, bell(dsn) as it:
        await client.update(snapshot(tokensUsed=6000))

        await it.threshold(50)

        await eventually(it.transitions, timeout=5)


async def _is(it: Bell, heard: list[str]) -> bool:
    return await it.transitions() == heard


async def test_a_reload_compares_every_state_anew(tmp_path: Path, dsn: str) -> None:
    before = configure(tmp_path, dsn, **every(60))
    after = configure(tmp_path, dsn, **every(60), thresholds={"default": [50], "hysteresis": 1})
    reload = asyncio.Event()
    options = {"reload": reload, "reread": lambda: after}
    async with serving(before, **options) as client, bell(dsn) as it:
        await client.update(snapshot(tokensUsed=6000))
        await eventually(lambda: client.metric("quotabell_listener_up"))

        reload.set()

        await eventually(it.transitions, timeout=5)
        assert await it.transitions() == ["50"]


# --- the configuration in force ------------------------------------------------------------


def mirror_of(pool: Database, metrics: Metrics) -> Mirror:
    counting = Counting(QuotaStore(pool), metrics, LOG)
    return Mirror(SettingsStore(pool), counting, ChannelStore(pool), metrics, LOG)


async def test_the_last_configuration_counts_and_others_say_that_they_differ(
    tmp_path: Path, dsn: str, pool: Database
) -> None:
    metrics = [Metrics(), Metrics()]
    one, two = (mirror_of(pool, m) for m in metrics)
    configs = [configure(tmp_path, dsn, thresholds={"default": [t]}) for t in (50, 60)]

    await one.put(configs[0])
    await two.put(configs[1])
    for mirror in (one, two):
        await mirror.check()

    found = [m.registry.get_sample_value("quotabell_config_in_sync") for m in metrics]
    assert found == [0, 1]
    assert (await pool.fetch("select default_thresholds from settings"))[0][0] == [60]


async def test_only_a_different_configuration_has_states_compared_anew(
    tmp_path: Path, dsn: str, pool: Database
) -> None:
    mirror = mirror_of(pool, Metrics())
    async with bell(dsn) as it:
        for thresholds, scopes in (([75, 90, 100], 0), ([50], 1), ([50], 0), ([50, 60], 1)):
            await mirror.put(configure(tmp_path, dsn, thresholds={"default": thresholds}))
            assert await it.value("select count(*) from rearm_scopes") == scopes
            await it.execute("delete from rearm_scopes")

        await it.settings([99])  # by hand
        await mirror.put(configure(tmp_path, dsn, thresholds={"default": [50, 60]}))
        assert await it.value("select default_thresholds from settings") == [50, 60]
