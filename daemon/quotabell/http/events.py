"""``POST /api/token-monitor/events``: usage events in, each counted once."""

from __future__ import annotations

import functools
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from aiohttp import hdrs, web
from pydantic import Field

from quotabell.aside import aside
from quotabell.config import Ingest
from quotabell.domain.events import Outcome, UsageEvent
from quotabell.errors import FieldError, QuotabellError, Rejected, Unavailable
from quotabell.formats import events
from quotabell.formats.event_body import EventBody
from quotabell.formats.json_reader import Body
from quotabell.http import body
from quotabell.http.auth import Caller
from quotabell.http.explained import Explanation, ItemFault, RejectedItem, explained_item
from quotabell.http.problem import SHOWN_ERRORS
from quotabell.http.route import Answer, Query, Route
from quotabell.metrics import Metrics
from quotabell.service.commit import Committer
from quotabell.service.sources import Sources
from quotabell.store.events import Counted as StoredEvents
from quotabell.store.events import EventStore
from quotabell.store.sources import Source

PATH = "/api/token-monitor/events"
NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_FIELDS = frozenset(EventBody.model_fields)
_MAX_CULPRITS = 20  # items of one request that the database may refuse before all of it is

EventCommitter = Committer[UsageEvent, Outcome, StoredEvents]


class Counted(msgspec.Struct):
    """What became of the items, after the commit. A repeat is a duplicate, or corrected if it
    has a larger total."""

    accepted: int
    duplicates: int
    corrected: int
    rejected: list[RejectedItem]


def routes(
    committer: EventCommitter,
    store: EventStore,
    metrics: Metrics,
    ingest: Ingest,
    senders: Iterable[str],
    sources: Sources,
    *,
    retention: timedelta,
    now: Callable[[], datetime],
) -> list[Route]:
    """The routes of this resource; events older than ``retention`` are refused.

    ``senders``: who may report, so that series start at 0.
    """
    counters = functools.cache(lambda name: metrics.event_outcomes(f"{name}/events"))
    for name in senders:
        counters(name)

    def decode(raw: Body, ndjson: bool) -> events.DecodedEvents:
        at = now()
        return events.decode(
            raw,
            now=at,
            future_skew=ingest.future_skew,
            oldest=at - retention,
            max_batch=ingest.max_batch,
            ndjson=ndjson,
        )

    async def take(request: web.Request, caller: Caller) -> web.StreamResponse:
        tell = counters(caller.counted_as)
        source = Source(caller.name, caller.user or "", "events")
        try:
            dry = _is_dry(request)
            ndjson = _is_ndjson(request)
            raw = await body.read(request, ingest.max_body)
            decoded = await body.decoded(raw, lambda data: decode(data, ndjson))
            own = await aside(
                len(decoded.events), lambda: [_owned(event, caller) for event in decoded.events]
            )
            if dry:
                return await _explain(store, own, decoded)
            outcomes, errors = await commit(committer, own, decoded.indices, decoded.errors)
        except Unavailable:
            tell["unavailable"].inc()
            raise
        except QuotabellError as error:
            tell["rejected"].inc()
            sources.refused(source, 1, error, _FIELDS)
            raise
        rejected = by_item(errors)
        sources.refused(source, len(rejected), Rejected(errors), _FIELDS)
        for name, taken in Tally(event.source for event in own).items():
            sources.took(source._replace(source=name.removeprefix(f"{caller.name}/")), taken)
        tally = Tally(outcomes)
        tell["rejected"].inc(len(rejected))
        for outcome in Outcome:
            tell[outcome].inc(tally[outcome])
        if not outcomes:
            raise Rejected(errors)
        return web.Response(
            body=msgspec.json.encode(
                Counted(
                    tally[Outcome.ACCEPTED],
                    tally[Outcome.DUPLICATE],
                    tally[Outcome.CORRECTED],
                    rejected,
                )
            ),
            content_type="application/json",
        )

    return [
        Route(
            "POST",
            PATH,
            take,
            "ingest",
            "Report usage events: one, an array, or NDJSON",
            request=EventBody | Annotated[list[EventBody], Field(min_length=1)],
            texts=tuple(sorted(NDJSON)),
            query=(
                Query(
                    "dryRun",
                    "Say how each item would count, and store nothing",
                    {"type": "boolean", "default": False},
                ),
            ),
            answers={
                200: Answer(
                    "Committed, apart from what was rejected; with dryRun, what would be",
                    (Counted, Explanation),
                )
            },
            faults=(503,),
        )
    ]


def _is_dry(request: web.Request) -> bool:
    """Raises Rejected for a value that is neither true nor false."""
    value = request.query.get("dryRun", "false").lower()
    if value not in ("true", "false"):
        raise Rejected([FieldError("dryRun", "must be true or false")])
    return value == "true"


async def _explain(
    store: EventStore, own: list[UsageEvent], decoded: events.DecodedEvents
) -> web.Response:
    found = await store.explain(own)
    items = [
        explained_item(index, event, explained)
        for index, event, explained in zip(decoded.indices, own, found, strict=True)
    ]
    answer = Explanation("events", items, by_item(decoded.errors))
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _is_ndjson(request: web.Request) -> bool:
    """Raises UnsupportedType for a declared type that is neither JSON nor NDJSON."""
    declared = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    if declared in NDJSON:
        return True
    body.expect_json(request)
    return False


def _owned(event: UsageEvent, caller: Caller) -> UsageEvent:
    """The event with a source that nobody but its sender can name, for its sender's user."""
    return event._replace(
        source=f"{caller.name}/{event.source}", user_id=caller.counts_for(event.user_id)
    )


async def commit(
    committer: EventCommitter,
    own: list[UsageEvent],
    indices: Sequence[int],
    faults: Sequence[FieldError],
) -> tuple[list[Outcome], list[FieldError]]:
    """Count the events; one that the database refuses costs only itself.

    ``indices``: the places of the events in their body; ``faults`` those found before.
    """
    errors, places = list(faults), list(indices)
    for _ in range(_MAX_CULPRITS):
        if not own:
            return [], errors
        try:
            return list(await committer.submit(own)), errors
        except Rejected as error:
            culprit = error.errors[0].index
            if culprit is None:
                raise
            errors.append(FieldError("", error.errors[0].message, places[culprit]))
            del own[culprit], places[culprit]
    raise Rejected(errors)


def by_item(errors: list[FieldError]) -> list[RejectedItem]:
    found: dict[int, Any] = {}
    for error in errors:
        item = found.setdefault(error.index or 0, RejectedItem(error.index or 0, []))
        if len(item.errors) < SHOWN_ERRORS:
            item.errors.append(ItemFault(error.path, error.message))
    return [found[index] for index in sorted(found)]
