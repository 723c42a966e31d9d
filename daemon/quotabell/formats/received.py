"""What the receivers of other programs' formats have in common.

Their senders do not read answers, so a wrong item costs only itself, and what can be
understood in spite of a flaw is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from quotabell.domain.events import Kinds, UsageEvent
from quotabell.domain.usage import BIGINT_MAX, NAME_MAX, Snapshot
from quotabell.errors import FieldError
from quotabell.formats import event_body, items, naming
from quotabell.formats.event_body import Bounds
from quotabell.formats.json_reader import LARGE, Body

MAX_ERRORS = 1_000
_REFUSED = (msgspec.MsgspecError, RecursionError, UnicodeError)
_PLAIN_ID = 512  # bytes; of a longer one only a digest is kept


@dataclass(slots=True)
class Received:
    """What a body holds.

    ``errors`` are the faults of refused items, by their place among the ``items``, of the first
    `MAX_ERRORS`; ``rejected`` is how many were refused. The rest are events, or tell of nothing
    that a provider counted. ``indices[i]`` is the place of
    ``events[i]``. ``limits`` are what providers said of their own limits; ``scopes`` the
    instrumentations that each source's events come from.
    """

    events: list[UsageEvent] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)
    limits: list[Snapshot] = field(default_factory=list)
    scopes: dict[str, set[str]] = field(default_factory=dict)
    items: int = 0
    rejected: int = 0

    def add(self, found: UsageEvent | FieldError | None, scope: str = "") -> None:
        """One more item: an event, what is wrong with it, or nothing that counts."""
        if isinstance(found, UsageEvent):
            self.scopes.setdefault(found.source, set()).add(scope)
            self.events.append(found)
            self.indices.append(self.items)
        elif found is not None:
            self.refuse(found)
        self.items += 1

    def refuse(self, fault: FieldError) -> None:
        """What is wrong with the present item."""
        self.rejected += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(FieldError(fault.path, fault.message, self.items))


T = TypeVar("T")


class ItemDecoder(Generic[T]):
    """Decodes one item, an array or NDJSON; ``unlike`` is told of an item that is no JSON."""

    def __init__(self, kind: type[T], unlike: str) -> None:
        self._decode = msgspec.json.Decoder[Any](kind | list[kind]).decode  # type: ignore[valid-type]
        self._decode_item = msgspec.json.Decoder(kind).decode
        self._unlike = FieldError("", unlike)

    def items(self, body: Body, max_batch: int) -> Sequence[T | FieldError]:
        """Each item of a body, or what is wrong with it.

        Raises Malformed for what is no JSON, Rejected for no items or too many, TooLarge.
        """
        if len(body) <= LARGE:
            body = bytes(body)
            try:
                whole = self._decode(body)
            except _REFUSED:
                pass
            else:
                if not isinstance(whole, list):
                    return [whole]
                items.bounded(len(whole), max_batch)
                return whole
        return [self._item(raw) for raw in items.each(body, max_batch)]

    def _item(self, raw: bytes) -> T | FieldError:
        try:
            return self._decode_item(raw)
        except msgspec.ValidationError as error:
            return place(error)
        except _REFUSED:
            return self._unlike


class Call(NamedTuple):
    """A call as some client describes it. Names are the client's; ``at`` None: now."""

    source: str
    id: str | None
    at: datetime | None
    provider: str
    model: str
    user: str
    kinds: Kinds
    cost: Decimal | None = None


def event(call: Call, bounds: Bounds) -> UsageEvent | FieldError | None:
    """The event of a call, or what is wrong with it; None: it consumed nothing that is known.

    No count at all is what clients send when they do not know, so it is not a count of 0.
    """
    if not any(call.kinds):
        return None
    provider = naming.provider(call.provider, call.model)
    made = UsageEvent(
        call.source,
        None if call.id is None else bounded_id(call.id),
        call.at or bounds.now,
        provider,
        naming.model(call.model, provider, call.provider.strip()),
        call.user.strip(),
        *call.kinds,
        call.cost,
    )
    return _fault(made, bounds) or made._replace(time=min(made.time or bounds.now, bounds.now))


def _fault(made: UsageEvent, bounds: Bounds) -> FieldError | None:
    for name, text in (("provider", made.provider), ("model", made.model), ("user", made.user_id)):
        if len(text) > NAME_MAX:
            return FieldError(name, f"is longer than {NAME_MAX} characters")
        if wrong := event_body.bad_text(text):
            return FieldError(name, wrong)
    if min(made.kinds) < 0 or made.total > BIGINT_MAX:
        return FieldError("usage", f"its counts are below 0 or add up to more than {BIGINT_MAX}")
    at = made.time or bounds.now
    if at > bounds.latest:
        return FieldError("time", "lies too far in the future")
    if at < bounds.oldest:
        oldest = bounds.oldest.isoformat()
        return FieldError("time", f"{event_body.TOO_OLD}: lies before {oldest}")
    return None


def place(error: msgspec.ValidationError) -> FieldError:
    """Where in an item something is wrong, and what, without a value of it."""
    message, _, path = str(error).partition(" - at `$")
    return FieldError(path.rstrip("`").lstrip("."), message[:1].lower() + message[1:])


def bounded_id(text: str) -> str:
    """An id as it can be stored: itself, or its digest if it is long or holds odd characters."""
    if event_body.bad_text(text) is None and len(text.encode()) <= _PLAIN_ID:
        return text
    return "sha256:" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def source(text: str, default: str) -> str:
    """The name of what makes the calls as it can be stored."""
    text = text.strip()[:NAME_MAX]
    return text if text and event_body.bad_text(text) is None else default


def first(names: Iterable[str], get: Callable[[str], Any]) -> str:
    """The first of the named values that is a text or whole number, and not empty."""
    for name in names:
        value = get(name)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""


def count(value: object) -> int | None:
    """A number of tokens from what clients write: a whole number, also as float or text.

    None: none of these. Negative and huge ones are left for the checks of the event.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else None
    if isinstance(value, float):
        return round(value) if math.isfinite(value) and abs(value) <= BIGINT_MAX else None
    return value if isinstance(value, int) else None


def cost(value: object) -> Decimal | None:
    """An amount in USD; None: not known."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return event_body.money(str(value)) if str(value).isascii() else None
