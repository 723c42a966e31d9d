"""CloudEvents 1.0: one or a batch in the JSON format, or one whose attributes came beside its data.

The data is what LiteLLM's OpenMeter callback sends (type ``litellm_tokens``), a provider's own
usage, or OpenMeter's ``{"tokens", "type", "model"}``. The subject is the user. (source, id) is
the key, as the specification has it; the data's text fields other than names are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from quotabell.domain.events import Kinds, UsageEvent
from quotabell.errors import FieldError, Malformed
from quotabell.formats import event_body, provider_usage, received
from quotabell.formats.event_body import Bounds
from quotabell.formats.json_reader import Body, Reader
from quotabell.formats.provider_usage import Usage
from quotabell.formats.received import Call, ItemDecoder, Received, cost, count

LITELLM = "litellm_tokens"
SOURCE = "cloudevents"


class _Data(Usage, gc=False):
    provider: str | None = None
    system: str | None = None
    model: str | None = None
    cost: float | str | None = None
    usage: Usage | None = None
    tokens: Any = None
    type: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    data: _Data | None = None


_DECODER = ItemDecoder(_Envelope, "is no CloudEvent")
_decode_data = msgspec.json.Decoder(_Data).decode
_REQUIRED = ("specversion", "id", "source", "type")
_OPTIONAL = ("subject", "time")
_OUTPUT = frozenset({"output", "completion"})


class ReceivedEvents(Received):
    """As it says. ``foreign[i]``: whether the subject of ``events[i]`` is LiteLLM's choice."""

    __slots__ = ("foreign",)

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[bool] = []


def decode(
    body: Body, *, now: datetime, future_skew: timedelta, oldest: datetime, max_batch: int
) -> ReceivedEvents:
    """The events of a body.

    Raises Malformed for what is no JSON, Rejected for no items or too many, TooLarge.
    """
    bounds = Bounds(now, now + future_skew, oldest)
    found = ReceivedEvents()
    for item in _DECODER.items(body, max_batch):
        _add(found, item, bounds)
    return found


def decode_binary(
    attributes: Mapping[str, str],
    data: Body,
    *,
    now: datetime,
    future_skew: timedelta,
    oldest: datetime,
) -> ReceivedEvents:
    """The event whose data is a body of its own (the binary content mode of HTTP), in JSON.

    ``attributes`` are its others, as text. Raises Malformed for what is no JSON.
    """
    found = ReceivedEvents()
    _add(found, _beside(attributes, data), Bounds(now, now + future_skew, oldest))
    return found


def _beside(attributes: Mapping[str, str], data: Body) -> _Envelope | FieldError:
    for name in _REQUIRED:
        if name not in attributes:
            return FieldError(name, "is missing")
    known = {name: attributes[name] for name in (*_REQUIRED, *_OPTIONAL) if name in attributes}
    raw = Reader(data).raw() if data else b"null"
    try:
        return _Envelope(**known, data=None if raw == b"null" else _decode_data(raw))
    except msgspec.ValidationError as error:
        fault = received.place(error)
        return FieldError(f"data.{fault.path}".rstrip("."), fault.message)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise Malformed("the data is not JSON") from None


def _add(found: ReceivedEvents, item: _Envelope | FieldError, bounds: Bounds) -> None:
    made = item if isinstance(item, FieldError) else _event(item, bounds)
    found.add(made)
    if isinstance(made, UsageEvent) and not isinstance(item, FieldError):
        found.foreign.append(item.type == LITELLM)


def _event(item: _Envelope, bounds: Bounds) -> UsageEvent | FieldError | None:
    if not item.specversion.startswith("1."):
        return FieldError("specversion", "must be 1.0")
    if not item.id or not item.source:
        return FieldError("source" if item.id else "id", "must not be empty")
    at = None if item.time is None else event_body.moment(item.time)
    if item.time is not None and at is None:
        return FieldError("time", "is not a time that can be understood")
    data = item.data
    if data is None:
        return FieldError("data", "is missing")
    kinds = _kinds(data)
    if kinds is None:
        return FieldError("data", "holds no token counts")
    return received.event(
        Call(
            received.source(item.source, SOURCE),
            item.id,
            at,
            data.provider or data.system or "",
            data.model or "",
            item.subject or "",
            kinds,
            cost(data.cost),
        ),
        bounds,
    )


def _kinds(data: _Data) -> Kinds | None:
    kinds = provider_usage.kinds(data.usage if data.usage is not None else data)
    if kinds is None and (tokens := count(data.tokens)) is not None:
        is_output = (data.type or "").lower() in _OUTPUT
        return Kinds(output=tokens) if is_output else Kinds(input=tokens)
    return kinds
