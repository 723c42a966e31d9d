"""Group commit, against a real database: who shares a transaction, and who pays for whom."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
import pytest_asyncio

from quotabell import log
from quotabell.domain.usage import Receipt, Snapshot
from quotabell.errors import Rejected, Unavailable
from quotabell.metrics import Metrics
from quotabell.service import commit
from quotabell.service.commit import Committer
from quotabell.store.database import Database
from quotabell.store.usage import UsageStore
from tests.support.postgres import Database as ServerDatabase
from tests.support.waiting import eventually

MAX_PENDING = 300


@dataclass(slots=True)
class Bench:
    """A committer at work, what it logs, and a connection of somebody else."""

    committer: Committer
    database: Database
    metrics: Metrics
    log: io.StringIO
    other: asyncpg.Connection

    async def submit(self, *items: Snapshot) -> list[Receipt]:
        return await self.committer.submit(items)

    def waiting(self) -> int:
        return self.committer.pending

    def value(self, name: str) -> float:
        found = self.metrics.registry.get_sample_value(name)
        assert found is not None
        return found

    async def stored(self) -> dict[str, int]:
        """The tokens used by model."""
        rows = await self.other.fetch("select model, tokens_used from token_usage")
        return {row["model"]: row["tokens_used"] for row in rows}

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Nothing can be written to the table meanwhile, only read."""
        async with self.other.transaction():
            await self.other.execute("lock table token_usage in share mode")
            yield


@pytest_asyncio.fixture
async def bench(database: ServerDatabase) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        stream = io.StringIO()
        logger = log.configure("info", stream=stream).get_logger()
        metrics = Metrics()
        own = Database(database.dsn, pool_size=2, prepared_statements=True, log=logger)
        stack.push_async_callback(own.close)
        await own.open()
        committer = Committer(UsageStore(own), metrics, logger, max_pending=MAX_PENDING)
        for work in (own.watch(), committer.run(), committer.sweep()):
            task = asyncio.create_task(work)
            stack.push_async_callback(_cancelled, task)
        other = await asyncpg.connect(database.admin_dsn)
        stack.push_async_callback(other.close)
        yield Bench(committer, own, metrics, stream, other)


async def _cancelled(task: asyncio.Task[None]) -> None:
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def item(model: str, used: int = 1, **more: object) -> Snapshot:
    return Snapshot("p", model, used, 100, **more)  # type: ignore[arg-type]


async def refuse_poison(bench: Bench) -> None:
    await bench.other.execute(
        "alter table token_usage add constraint no_poison check (model not like 'poison%')"
    )


# --- sharing -------------------------------------------------------------------------------


async def test_reports_that_wait_together_are_committed_together(bench: Bench):
    async with bench.held():
        reports = [asyncio.ensure_future(bench.submit(item(f"m{n}", n))) for n in range(200)]
        await eventually(lambda: bench.waiting() == 200)
    receipts = await asyncio.gather(*reports)

    assert [r[0].tokens_used for r in receipts] == list(range(200))
    assert await bench.stored() == {f"m{n}": n for n in range(200)}
    assert bench.value("quotabell_ingest_batch_events_count") <= 2
    assert bench.value("quotabell_ingest_batch_events_sum") == 200
    assert bench.value("quotabell_ingest_commit_seconds_count") <= 2
    assert bench.waiting() == 0


async def test_a_request_is_never_split_and_a_batch_is_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(commit, "BATCH_ITEMS", 10)
    async with bench.held():
        first = asyncio.ensure_future(bench.submit(item("first")))
        await eventually(lambda: _blocked(bench))
        sizes = [4, 6, 1, 25, 3]
        reports = [
            asyncio.ensure_future(bench.submit(*(item(f"r{n}-{i}") for i in range(size))))
            for n, size in enumerate(sizes)
        ]
        await eventually(lambda: bench.waiting() == 1 + sum(sizes))
    await asyncio.gather(first, *reports)
    rows = await bench.other.fetch("select model, xmin::text as batch from token_usage")
    batches: dict[str, list[str]] = {}
    for row in rows:
        batches.setdefault(row["batch"], []).append(row["model"].partition("-")[0])

    assert sorted((sorted(set(models)), len(models)) for models in batches.values()) == [
        (["first"], 1),
        (["r0", "r1"], 10),
        (["r2"], 1),
        (["r3"], 25),
        (["r4"], 3),
    ]


async def test_what_is_answered_has_been_committed_and_passed_on(bench: Bench):
    seen: list[str] = []
    committer = Committer(
        UsageStore(bench.database),
        Metrics(),
        log.configure("error").get_logger(),
        max_pending=10,
        on_stored=lambda stored: seen.extend(s.model for s in stored.states),
    )
    task = asyncio.create_task(committer.run())
    await committer.submit([item("a"), item("b")])

    assert await bench.stored() == {"a": 1, "b": 1}
    assert sorted(seen) == ["a", "b"]
    await _cancelled(task)


# --- poison --------------------------------------------------------------------------------


async def test_a_report_that_the_database_refuses_fails_alone(bench: Bench):
    await refuse_poison(bench)
    async with bench.held():
        reports = [
            asyncio.ensure_future(bench.submit(item("poison" if n == 77 else f"m{n}")))
            for n in range(200)
        ]
        await eventually(lambda: bench.waiting() == 200)
    found = await asyncio.gather(*reports, return_exceptions=True)

    assert [n for n, f in enumerate(found) if isinstance(f, Exception)] == [77]
    assert isinstance(found[77], Rejected)
    assert await bench.stored() == {f"m{n}": 1 for n in range(200) if n != 77}
    assert "report refused by the database" in bench.log.getvalue()


@pytest.mark.parametrize(("size", "poisoned"), [(1, 0), (2, 1), (7, 0), (7, 3), (7, 6)])
async def test_an_array_is_refused_whole_naming_the_item(bench: Bench, size: int, poisoned: int):
    await refuse_poison(bench)
    items = [item("poison" if n == poisoned else f"m{n}") for n in range(size)]
    async with bench.held():
        refused = asyncio.ensure_future(bench.submit(*items))
        fine = asyncio.ensure_future(bench.submit(item("other")))
        await eventually(lambda: bench.waiting() == size + 1)
    await fine
    with pytest.raises(Rejected) as caught:
        await refused

    assert [e.index for e in caught.value.errors] == [poisoned]
    assert await bench.stored() == {"other": 1}


async def test_an_item_is_found_though_a_later_one_replaces_it(bench: Bench):
    """Of one quota only the peak and the last report are written."""
    await bench.other.execute(
        "alter table token_usage add constraint no_poison check (tokens_used <> 90)"
    )
    with pytest.raises(Rejected) as caught:
        await bench.submit(item("a"), item("m", 90), item("b"), item("m", 10), item("c"))

    assert [e.index for e in caught.value.errors] == [1]
    assert await bench.stored() == {}


async def test_many_poisons_of_one_moment_each_fail_alone(bench: Bench):
    await refuse_poison(bench)
    async with bench.held():
        reports = [
            asyncio.ensure_future(bench.submit(item(f"{'poison' if n % 3 else 'm'}{n}")))
            for n in range(30)
        ]
        await eventually(lambda: bench.waiting() == 30)
    found = await asyncio.gather(*reports, return_exceptions=True)

    assert [isinstance(f, Rejected) for f in found] == [bool(n % 3) for n in range(30)]
    assert await bench.stored() == {f"m{n}": 1 for n in range(0, 30, 3)}


async def test_what_the_driver_cannot_encode_is_refused_too(bench: Bench):
    async with bench.held():
        bad = asyncio.ensure_future(bench.submit(item("half \ud800")))
        too_large = asyncio.ensure_future(bench.submit(item("m", 2**63)))
        good = asyncio.ensure_future(bench.submit(item("fine")))
        await eventually(lambda: bench.waiting() == 3)
    found = await asyncio.gather(bad, too_large, good, return_exceptions=True)

    assert [type(f) for f in found] == [Rejected, Rejected, list]
    assert bench.database.up


# --- conflicts -----------------------------------------------------------------------------


async def test_a_deadlock_is_repeated_unseen(bench: Bench):
    await bench.submit(item("a", 1), item("b", 1))
    await bench.other.execute("set deadlock_timeout = '20s'")  # so that ours is the victim
    async with bench.other.transaction():
        await bench.other.execute("update token_usage set tokens_used = 2 where model = 'b'")
        report = asyncio.ensure_future(bench.submit(item("a", 3), item("b", 3)))
        await eventually(lambda: _blocked(bench))
        await bench.other.execute("update token_usage set tokens_used = 2 where model = 'a'")
    await report

    assert "deadlock detected" in bench.log.getvalue()
    assert await bench.stored() == {"a": 3, "b": 3}


async def _blocked(bench: Bench) -> bool:
    """Whether somebody waits for what the other connection has locked."""
    return bool(
        await bench.other.fetchval(
            "select exists (select from pg_locks"  # pg_stat_activity stands still in a transaction
            " where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"
        )
    )


async def test_a_serialization_failure_is_repeated_unseen(bench: Bench):
    name = await bench.other.fetchval("select current_database()")
    await bench.other.execute(
        f"alter database {name} set default_transaction_isolation = 'repeatable read'"
    )
    await bench.submit(item("a", 1))
    await bench.database.ingest.expire_connections()
    async with bench.other.transaction(isolation="read_committed"):
        await bench.other.execute("update token_usage set tokens_used = 2 where model = 'a'")
        report = asyncio.ensure_future(bench.submit(item("a", 3)))
        await eventually(lambda: _blocked(bench))
    await report

    assert "could not serialize access" in bench.log.getvalue()
    assert await bench.stored() == {"a": 3}


async def test_a_conflict_without_end_costs_only_its_own_batch(bench: Bench):
    await bench.other.execute(
        """
        create sequence tries;
        grant usage on sequence tries to public;
        create function contend() returns trigger language plpgsql as $$
        begin
            perform nextval('tries');
            raise exception using errcode = '40001', message = 'again';
        end $$;
        create trigger contend before insert on token_usage
            for each row when (new.model = 'contended') execute function contend();
        """
    )
    async with bench.held():
        contended = asyncio.ensure_future(bench.submit(item("contended")))
        await eventually(lambda: bench.waiting() == 1)
        await eventually(lambda: _blocked(bench))
        after = asyncio.ensure_future(bench.submit(item("after")))
        await eventually(lambda: bench.waiting() == 2)
    with pytest.raises(Unavailable):
        await contended
    await after

    assert await bench.other.fetchval("select last_value from tries") == 4
    assert await bench.stored() == {"after": 1}
    assert bench.database.up


# --- bounds --------------------------------------------------------------------------------


async def test_a_full_queue_refuses_at_once_and_only_what_is_too_much(bench: Bench):
    async with bench.held():
        reports = [
            asyncio.ensure_future(bench.submit(item(f"m{n}"), item(f"n{n}"))) for n in range(149)
        ]
        await eventually(lambda: bench.waiting() == 298)
        with pytest.raises(Unavailable) as caught:
            bench.committer.submit([item("x"), item("y"), item("z")])
        fits = bench.committer.submit([item("x"), item("y")])
        with pytest.raises(Unavailable):
            bench.committer.submit([item("z")])
    await asyncio.gather(*reports, fits)

    assert caught.value.retry_after == 1.0
    assert "z" not in await bench.stored()
    assert bench.waiting() == 0
    await bench.submit(item("z"))


async def test_without_the_database_a_report_is_refused_at_once(bench: Bench):
    bench.database.up = False

    with pytest.raises(Unavailable):
        bench.committer.submit([item("a")])
    assert bench.waiting() == 0


async def test_a_lost_database_is_told_to_everyone_who_waits(bench: Bench):
    async with bench.held():
        reports = [asyncio.ensure_future(bench.submit(item("taken")))]
        await eventually(lambda: _blocked(bench))
        reports += [asyncio.ensure_future(bench.submit(item(f"m{n}"))) for n in range(50)]
        await eventually(lambda: bench.waiting() == 51)
        started = time.monotonic()
        await bench.other.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'quotabell' and datname = current_database()"
        )
        found = await asyncio.gather(*reports, return_exceptions=True)

    assert {type(f) for f in found} == {Unavailable}
    assert time.monotonic() - started < 3.0
    assert bench.waiting() == 0
    await eventually(lambda: bench.database.up, timeout=2.0)
    await bench.submit(item("again"))
    assert await bench.stored() == {"again": 1}


async def test_no_report_waits_longer_than_it_may(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commit, "ANSWER_WITHIN", 0.5)
    async with bench.held():
        taken = asyncio.ensure_future(bench.submit(item("taken")))
        await eventually(lambda: _blocked(bench))
        queued = asyncio.ensure_future(bench.submit(item("queued")))
        started = time.monotonic()
        found = await asyncio.gather(taken, queued, return_exceptions=True)

    assert time.monotonic() - started < 3.0
    assert {type(f) for f in found} == {Unavailable}
    assert "unknown" in str(found[0])
    assert "unknown" not in str(found[1])
    await eventually(lambda: bench.waiting() == 0)
    assert "queued" not in await bench.stored()


async def test_closing_waits_for_what_is_queued_and_takes_no_more(bench: Bench):
    async with bench.held():
        report = asyncio.ensure_future(bench.submit(item("a")))
        await eventually(lambda: _blocked(bench))
        closing = asyncio.ensure_future(bench.committer.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            bench.committer.submit([item("b")])
        assert not closing.done()
    await asyncio.gather(report, closing)

    assert await bench.stored() == {"a": 1}


async def test_nobody_waiting_for_the_answer_is_no_trouble(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    """The client is gone: its report is stored all the same, or fails without complaint."""
    await refuse_poison(bench)
    async with bench.held():
        gone = asyncio.ensure_future(bench.submit(item("a")))
        bench.committer.submit([item("poison")])
        await eventually(lambda: bench.waiting() == 2)
        gone.cancel()
    await bench.submit(item("b"))
    gc.collect()

    assert await bench.stored() == {"a": 1, "b": 1}
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_whoever_holds_a_row_holds_up_only_those_who_want_it(bench: Bench):
    await bench.submit(item("held"))
    async with bench.other.transaction():
        await bench.other.execute("select from token_usage where model = 'held' for update")
        wanting = asyncio.ensure_future(bench.submit(item("held", 2)))
        others = [asyncio.ensure_future(bench.submit(item(f"free{n}"))) for n in range(3)]
        await asyncio.gather(*others)
        with pytest.raises(Unavailable, match=commit.CONTENDED):
            await wanting

    assert bench.database.up
    assert (await bench.submit(item("held", 3)))[0].applied
