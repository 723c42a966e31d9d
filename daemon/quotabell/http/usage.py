"""``/api/token-monitor``: usage in, and whether the service is well."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from aiohttp import hdrs, web
from prometheus_client import Counter
from pydantic import Field

from quotabell import __version__
from quotabell.aside import aside
from quotabell.config import Ingest
from quotabell.domain.usage import Receipt, Snapshot, shown_percentage
from quotabell.errors import FieldError, QuotabellError, Rejected, Unavailable
from quotabell.formats import snapshot
from quotabell.formats.json_reader import Body
from quotabell.http import body
from quotabell.http.auth import Caller
from quotabell.http.route import Answer, Route
from quotabell.metrics import Metrics
from quotabell.service.commit import Committer
from quotabell.service.sources import Sources
from quotabell.store.database import Database
from quotabell.store.sources import Source
from quotabell.store.usage import Reported

_encode = msgspec.json.Encoder().encode
_JSON = "application/json"
_FIELDS = frozenset(snapshot.SnapshotBody.model_fields)

SnapshotCommitter = Committer[Snapshot, Receipt, Reported]


class Shown(msgspec.Struct, rename="camel", gc=False):
    """What is stored now; ``applied``: whether it is this report, or a newer one."""

    provider: str
    model: str
    user_id: str | None
    quota: str
    tokens_used: int
    token_limit: int | None
    percentage: float | None
    timestamp: datetime
    applied: bool


class Acknowledged(msgspec.Struct):
    """The report is committed. ``data`` is an array if the body was one."""

    success: bool
    data: Shown | list[Shown]


class Status(msgspec.Struct, rename="camel"):
    """Whether the service is well; ``status`` is ``ok`` or ``unavailable``."""

    status: str
    database_connected: bool
    version: str


def routes(
    committer: SnapshotCommitter,
    database: Database,
    metrics: Metrics,
    ingest: Ingest,
    senders: Iterable[str],
    sources: Sources,
) -> list[Route]:
    """The routes of this resource. ``senders``: who may report, so that series start at 0."""
    counters = functools.cache(lambda name: metrics.ingest_outcomes(f"{name}/update"))
    for name in senders:
        counters(name)
    skew = ingest.future_skew

    def decode(raw: Body) -> snapshot.Decoded:
        return snapshot.decode(
            raw, now=database.clock.now(), future_skew=skew, max_batch=ingest.max_batch
        )

    async def update(request: web.Request, caller: Caller) -> web.StreamResponse:
        outcomes = counters(caller.counted_as)
        source = Source(caller.name, caller.user or "", "update")
        snapshots: list[Snapshot] = []
        is_array = True
        try:
            body.expect_json(request)
            raw = await body.read(request, ingest.max_body)
            snapshots, is_array = await body.decoded(raw, decode)
            if caller.user is not None:
                snapshots = [s._replace(user_id=caller.counts_for(s.user_id)) for s in snapshots]
            stored = await committer.submit(snapshots)
        except Unavailable:
            outcomes["unavailable"].inc(len(snapshots))
            raise
        except Rejected as error:
            items = len({e.index for e in error.errors})
            outcomes["rejected"].inc(items)
            sources.refused(source, items, error, _FIELDS)
            if is_array:
                raise
            raise Rejected([FieldError(e.path, e.message) for e in error.errors]) from None
        except QuotabellError as error:
            outcomes["rejected"].inc()
            sources.refused(source, 1, error, _FIELDS)
            raise
        _count(outcomes, stored)
        sources.took(source, len(stored))

        def shown() -> web.Response:
            data = [_shown(s, r) for s, r in zip(snapshots, stored, strict=True)]
            return _json(Acknowledged(True, data if is_array else data[0]))

        return await aside(len(stored), shown)

    async def status(request: web.Request, caller: Caller) -> web.StreamResponse:
        up = database.up
        answer = Status("ok" if up else "unavailable", up, __version__)
        reply = _json(answer, status=200 if up else 503)
        if not up:
            reply.headers[hdrs.RETRY_AFTER] = "1"
        return reply

    return [
        Route(
            "POST",
            "/api/token-monitor/update",
            update,
            "ingest",
            "Report a snapshot, or several at once",
            request=snapshot.SnapshotBody
            | Annotated[list[snapshot.SnapshotBody], Field(min_length=1)],
            answers={200: Answer("Committed", Acknowledged)},
            faults=(503,),
        ),
        Route(
            "GET",
            "/api/token-monitor/status",
            status,
            "read",
            "Whether the service is well",
            answers={
                200: Answer("It is", Status),
                503: Answer("The database is away", Status),
            },
        ),
    ]


def _count(outcomes: dict[str, Counter], stored: Sequence[Receipt]) -> None:
    applied = len([r for r in stored if r.applied])
    if applied:
        outcomes["accepted"].inc(applied)
    if applied != len(stored):
        outcomes["older"].inc(len(stored) - applied)


def _shown(item: Snapshot, receipt: Receipt) -> Shown:
    return Shown(
        item.provider,
        item.model,
        item.user_id or None,
        item.quota,
        receipt.tokens_used,
        receipt.token_limit,
        shown_percentage(receipt.percentage),
        receipt.reported_at,
        receipt.applied,
    )


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type=_JSON)
