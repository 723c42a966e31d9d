"""The bodies of LiteLLM's ``generic_api`` callback: items of its StandardLoggingPayload.

One object, an array, or lines of JSON that are declared as ``application/json`` as well. The
key is ``litellm_call_id``, one for each attempt and kept when an array is sent again, grown.
What LiteLLM answered from its own cache, failures, and calls whose usage it does not know (all
0) count nothing. Messages and answers, which are in the items by default, are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from quotabell.domain.events import Kinds, UsageEvent
from quotabell.errors import FieldError
from quotabell.formats import event_body, naming, provider_usage, ratelimits, received
from quotabell.formats.event_body import Bounds
from quotabell.formats.json_reader import LARGE, Body
from quotabell.formats.provider_usage import Usage
from quotabell.formats.received import Call, ItemDecoder, Received, cost, count, first

SOURCE = "litellm"
_NOBODY = "default_user_id"  # what the proxy calls whoever has the master key
_LEGACY = FieldError(
    "litellm_call_id",
    "is missing: this is the payload of generic_api_use_v1, whose usage is no JSON; switch it off",
)


class _Metadata(msgspec.Struct, gc=False):
    user_api_key_user_id: Any = None
    user_api_key_end_user_id: Any = None
    user_api_key_user_email: Any = None
    user_api_key_alias: Any = None
    user_api_key_team_id: Any = None
    user_api_key_org_id: Any = None
    usage_object: Usage | str | None = None


class _Hidden(msgspec.Struct, gc=False):
    additional_headers: dict[str, Any] | None = None


class _Parameters(msgspec.Struct, gc=False):
    user: Any = None


class _Item(msgspec.Struct, gc=False):
    litellm_call_id: str | None = None
    status: str | None = None
    cache_hit: bool | str | None = None
    custom_llm_provider: str | None = None
    model: str | None = None
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None
    response_cost: float | str | None = None
    endTime: float | str | None = None
    end_user: Any = None
    metadata: _Metadata | str | None = None
    hidden_params: _Hidden | str | None = None
    model_parameters: _Parameters | str | None = None


_DECODER = ItemDecoder(_Item, "is no JSON object")


class Read(NamedTuple):
    """How to read: between which times, and where users are."""

    bounds: Bounds
    users: Sequence[str]


def decode(
    body: Body,
    *,
    now: datetime,
    future_skew: timedelta,
    oldest: datetime,
    max_batch: int,
    users: Sequence[str],
) -> Received:
    """The events and the provider's limits in a body.

    Raises Malformed for what is no JSON, Rejected for too many items, TooLarge.
    """
    read = Read(Bounds(now, now + future_skew, oldest), users)
    found = Received()
    if len(body) <= LARGE and not bytes(body).strip(b" \t\r\n[]"):
        return found  # an empty array is what is left when all was filtered
    for item in _DECODER.items(body, max_batch):
        if isinstance(item, FieldError):
            found.add(item)
            continue
        found.limits += _limits(item, read)
        found.add(_event(item, read))
    return found


def _event(item: _Item, read: Read) -> UsageEvent | FieldError | None:
    if item.litellm_call_id is None:
        return _LEGACY
    if item.status == "failure" or str(item.cache_hit).lower() == "true":
        return None
    at, kinds = _time(item), _kinds(item)
    if item.endTime is not None and at is None:
        return FieldError("endTime", "is not a time that can be understood")
    if kinds is None:
        return None
    return received.event(
        Call(
            SOURCE,
            item.litellm_call_id,
            at,
            item.custom_llm_provider or "",
            item.model or "",
            first(read.users, lambda path: _user(item, path)),
            kinds,
            cost(item.response_cost),
        ),
        read.bounds,
    )


def _time(item: _Item) -> datetime | None:
    return None if item.endTime is None else event_body.moment(item.endTime)


def _user(item: _Item, path: str) -> Any:
    head, _, tail = path.partition(".")
    value = getattr(item, head, None)
    if tail:
        value = getattr(value, tail, None)
    return None if value == _NOBODY else value


def _kinds(item: _Item) -> Kinds | None:
    """The usage as the provider gave it, else the sums that LiteLLM made of it."""
    if isinstance(item.metadata, _Metadata) and isinstance(item.metadata.usage_object, Usage):
        kinds = provider_usage.kinds(item.metadata.usage_object)
        if kinds is not None and any(kinds):
            return kinds
    return provider_usage.kinds(
        Usage(
            prompt_tokens=count(item.prompt_tokens),
            completion_tokens=count(item.completion_tokens),
            total_tokens=count(item.total_tokens),
        )
    )


def _limits(item: _Item, read: Read) -> list[ratelimits.Snapshot]:
    hidden = item.hidden_params
    if not isinstance(hidden, _Hidden) or not hidden.additional_headers:
        return []
    provider = naming.provider(item.custom_llm_provider or "", item.model or "")
    model = naming.model(item.model or "", provider, item.custom_llm_provider or "")
    at = min(_time(item) or read.bounds.now, read.bounds.now)
    return ratelimits.learned(hidden.additional_headers, provider, model, at, read.bounds.now)
