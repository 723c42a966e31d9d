"""The body of ``POST /api/token-monitor/events``: usage events, one, an array, or NDJSON.

A fast decoder accepts what is right. Where it refuses, the items are told apart and decoded
one by one; those that are refused again are checked slowly, to name every offending field. A
bad item never costs the others their place. Fields that are not known, which may hold prompts
and answers, are skipped and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

import msgspec

from quotabell.domain.events import Kinds, UsageEvent, with_total
from quotabell.domain.usage import BIGINT_MAX, NAME_MAX
from quotabell.errors import FieldError, Malformed, TooLarge
from quotabell.formats import event_body, items, provider_usage
from quotabell.formats.event_body import ID_MAX, USAGES, Bounds, EventBody
from quotabell.formats.json_reader import LARGE, Body
from quotabell.formats.provider_usage import Tokens, Usage

_BOM = b"\xef\xbb\xbf"
_REFUSED = (msgspec.MsgspecError, RecursionError, UnicodeError)
_TOO_MANY = f"add up to more than {BIGINT_MAX}"
_DISJOINT = "disjoint: inputTokens without the cache, outputTokens without reasoning"
_CLASH = FieldError("", "needs either counts of tokens or a provider's usage")


class DecodedEvents(NamedTuple):
    """The events of a body, and the faults of the items that are refused.

    ``indices[i]`` is the place of ``events[i]`` among the ``items`` of the body; a fault has its
    item's ``index`` (None for the one item of a body that is no array). All may be refused.
    """

    events: list[UsageEvent]
    indices: Sequence[int]
    errors: list[FieldError]
    items: int


_Name = Annotated[str, msgspec.Meta(max_length=NAME_MAX)]
_Required = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]
_NO_COST = msgspec.Raw()


class _Wire(msgspec.Struct, rename="camel", gc=False):
    provider: _Required
    model: _Required
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX)] | None = None
    time: str | int | float | None = None
    source: _Name | None = None
    user_id: _Name | None = None
    input_tokens: Tokens = None
    cache_read_tokens: Tokens = None
    cache_write_tokens: Tokens = None
    output_tokens: Tokens = None
    reasoning_tokens: Tokens = None
    other_tokens: Tokens = None
    total_tokens: Tokens = None
    cost_usd: msgspec.Raw = _NO_COST  # its text: a float would round it
    usage: Usage | None = None
    usage_metadata: Usage | None = None


_decode = msgspec.json.Decoder(_Wire | list[_Wire]).decode
_decode_item = msgspec.json.Decoder(_Wire).decode


def decode(
    body: Body,
    *,
    now: datetime,
    future_skew: timedelta,
    oldest: datetime,
    max_batch: int,
    ndjson: bool = False,
) -> DecodedEvents:
    """The events of a body.

    ``now`` and ``future_skew`` bound times ahead, which count as now; ``oldest`` bounds them
    behind; ``max_batch`` the items. ``ndjson``: each line that is not blank is an item; without
    it, several lines of which one is an object are taken for the same. Raises Malformed for
    what is neither, Rejected for no items or too many, TooLarge for what is wrong and too
    large to say where.
    """
    bounds = Bounds(now, now + future_skew, oldest)
    if len(body) > LARGE:
        apart = items.lines(body, max_batch) if ndjson else items.each(body, max_batch)
        return _each(apart, bounds)
    body = bytes(body).removeprefix(_BOM)
    if ndjson:
        return _each(items.lines(body, max_batch), bounds)
    try:
        if not body.isascii():
            body.decode()  # the fast decoder does not look at what it skips
        wire = _decode(body)
    except _REFUSED:
        return _apart(body, bounds, max_batch)
    if not isinstance(wire, list):
        wire = [wire]
    else:
        items.bounded(len(wire), max_batch)
    events = [_event(item, bounds) for item in wire]
    if not all(events):
        return _apart(body, bounds, max_batch)
    return DecodedEvents(events, range(len(events)), [], len(events))  # type: ignore[arg-type]


def _apart(body: bytes, bounds: Bounds, max_batch: int) -> DecodedEvents:
    """A body that the fast decoder refuses, item by item."""
    found = items.apart(body, max_batch)
    if isinstance(found, list):
        return _each(found, bounds)
    one = _one(found, bounds)
    return (
        DecodedEvents([], [], one, 1) if isinstance(one, list) else DecodedEvents([one], [0], [], 1)
    )


def _each(found: Iterable[bytes], bounds: Bounds) -> DecodedEvents:
    events: list[UsageEvent] = []
    indices: list[int] = []
    errors: list[FieldError] = []
    index = -1
    for index, raw in enumerate(found):
        one = _one(raw, bounds)
        if isinstance(one, list):
            errors += [FieldError(fault.path, fault.message, index) for fault in one]
        else:
            events.append(one)
            indices.append(index)
    return DecodedEvents(events, indices, errors, index + 1)


def _event(item: _Wire, bounds: Bounds) -> UsageEvent | None:
    """None: something is wrong that the fast decoder does not see."""
    at, name = None, item.id
    if item.time is not None:
        at = event_body.moment(item.time)
        if at is None or not bounds.oldest <= at <= bounds.latest:
            return None
        if at > bounds.now:
            at = bounds.now
    elif name is not None:
        return None
    provider, model, source, user = item.provider, item.model, item.source or "", item.user_id or ""
    if "\0" in provider or "\0" in model or "\0" in source or "\0" in user:
        return None
    if provider.isspace() or model.isspace() or source.isspace() or user.isspace():
        return None
    if name is not None and ("\0" in name or name.isspace() or not name.isascii()):
        if event_body.bad_id(name):
            return None
    cost = None
    if item.cost_usd is not _NO_COST and (written := str(item.cost_usd, "utf-8")) != "null":
        cost = event_body.money(written)  # a text keeps its quotes, so it is no number
        if cost is None:
            return None
    kinds = _kinds(item)
    if not isinstance(kinds, Kinds):
        return None
    return UsageEvent(source, name, at, provider, model, user, *kinds, cost)


def _kinds(item: _Wire) -> Kinds | FieldError:
    if item.usage is not None or item.usage_metadata is not None:
        return _provider_kinds(item)
    kinds = Kinds(
        item.input_tokens or 0,
        item.cache_read_tokens or 0,
        item.cache_write_tokens or 0,
        item.output_tokens or 0,
        item.reasoning_tokens or 0,
        item.other_tokens or 0,
    )
    together, total = sum(kinds), item.total_tokens
    if together > BIGINT_MAX:
        return FieldError("", f"the token counts {_TOO_MANY}")
    if total and total < together:
        message = f"is less than the kinds together ({together}), which are {_DISJOINT}"
        return FieldError("totalTokens", message)
    return with_total(kinds, total) if together or _is_given(item) else _CLASH


def _provider_kinds(item: _Wire) -> Kinds | FieldError:
    path, usage = USAGES[0], item.usage
    if usage is None:
        path, usage = USAGES[1], item.usage_metadata
    elif item.usage_metadata is not None:
        return _CLASH
    if usage is None or _is_given(item):
        return _CLASH
    kinds = provider_usage.kinds(usage)
    if kinds is None:
        return FieldError(path, "holds no token counts as OpenAI, Anthropic or Gemini name them")
    return kinds if sum(kinds) <= BIGINT_MAX else FieldError(path, f"its counts {_TOO_MANY}")


def _is_given(item: _Wire) -> bool:
    """Whether any count of its own is there, be it 0."""
    return (
        item.input_tokens is not None
        or item.output_tokens is not None
        or item.total_tokens is not None
        or item.cache_read_tokens is not None
        or item.cache_write_tokens is not None
        or item.reasoning_tokens is not None
        or item.other_tokens is not None
    )


def _one(raw: bytes, bounds: Bounds) -> UsageEvent | list[FieldError]:
    """An item from its JSON, or all that is wrong with it."""
    try:
        raw.decode()
        event = _event(_decode_item(raw), bounds)
    except _REFUSED:
        event = None
    if event is not None:
        return event
    try:
        body, faults = event_body.check(raw, bounds)
    except (Malformed, TooLarge) as error:
        return [FieldError("", str(error))]
    if body is None or faults:
        return faults
    item = _wire(body)
    kinds = _kinds(item)
    if isinstance(kinds, FieldError):
        return [kinds]
    return _event(item, bounds) or [FieldError("", "cannot be understood")]


def _wire(body: EventBody) -> _Wire:
    """What the fast decoder would have made of a body that is right, if in unusual writing."""
    fields = dict(zip(_Wire.__struct_encode_fields__, _Wire.__struct_fields__, strict=True))
    values = body.model_dump(exclude_none=True)
    for name in USAGES:
        if name in values:
            values[name] = msgspec.convert(values[name], Usage)
    if body.time is not None:
        values["time"] = body.time.isoformat()
    if body.costUsd is not None:
        values["costUsd"] = msgspec.Raw(str(body.costUsd))
    return _Wire(**{fields[name]: value for name, value in values.items()})
