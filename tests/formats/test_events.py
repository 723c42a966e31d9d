"""The events body: what is right is counted, what is wrong is named and refused alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from quotabell.domain.events import Kinds, UsageEvent
from quotabell.domain.usage import BIGINT_MAX
from quotabell.errors import Malformed, Rejected
from quotabell.formats import event_body, events
from quotabell.formats.events import DecodedEvents

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SKEW = timedelta(minutes=5)
OLDEST = NOW - timedelta(days=35)
GOOD = {"provider": "openai", "model": "gpt-5", "inputTokens": 10}
TIMED = GOOD | {"id": "call-1", "time": "2026-11-22T11:00:00Z"}
DETAILS, CREATION, FIVE = "prompt_tokens_details", "cache_creation", "ephemeral_5m_input_tokens"
SECRET = "my prompt is nobody's business"


def decode(body: bytes | str, *, ndjson: bool = False, max_batch: int = 50) -> DecodedEvents:
    raw = body.encode() if isinstance(body, str) else body
    return events.decode(
        raw, now=NOW, future_skew=SKEW, oldest=OLDEST, max_batch=max_batch, ndjson=ndjson
    )


def one(item: dict[str, Any]) -> UsageEvent:
    decoded = decode(json.dumps(item))
    assert decoded.errors == []
    (event,) = decoded.events
    return event


def faults(body: bytes | str, **options: Any) -> set[tuple[str, int | None]]:
    errors = decode(body, **options).errors
    assert all(error.message for error in errors)
    return {(error.path, error.index) for error in errors}


def written(fields: dict[str, str]) -> str:
    """An object whose values are already JSON."""
    return "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in fields.items()) + "}"


# --- what is taken -------------------------------------------------------------------------


def test_every_field_of_an_event_is_read():
    event = one(
        {
            "id": "call-1",
            "time": "2026-11-22T11:00:00.5Z",
            "source": "worker",
            "provider": "openai",
            "model": "gpt-5",
            "userId": "alice",
            "inputTokens": 1,
            "cacheReadTokens": 2,
            "cacheWriteTokens": 4,
            "outputTokens": 8,
            "reasoningTokens": 16,
            "otherTokens": 32,
            "totalTokens": 100,
            "costUsd": 0.00512,
        }
    )

    at = datetime(2026, 11, 22, 11, 0, 0, 500_000, tzinfo=UTC)
    assert event[:13] == (
        *("worker", "call-1", at, "openai", "gpt-5", "alice"),
        *(1, 2, 4, 8, 16, 69),
        Decimal("0.00512"),
    )


def test_what_is_not_given_is_nobody_nowhere_and_now():
    nulls = dict.fromkeys(["id", "time", "source", "userId", "costUsd", "usage", "outputTokens"])

    assert one(GOOD)[:13] == ("", None, None, "openai", "gpt-5", "", 10, 0, 0, 0, 0, 0, None)
    assert one(GOOD | nulls) == one(GOOD)


def test_a_providers_usage_is_made_disjoint():
    usage = {
        "prompt_tokens": 1200,
        "completion_tokens": 340,
        "total_tokens": 1540,
        "prompt_tokens_details": {"cached_tokens": 1024},
        "completion_tokens_details": {"reasoning_tokens": 256},
    }
    event = one({"provider": "openai", "model": "gpt-5", "usage": usage})

    assert event.kinds == Kinds(input=176, cache_read=1024, output=84, reasoning=256)


@pytest.mark.parametrize("field", ["usage", "usageMetadata"])
def test_gemini_may_keep_its_own_name_for_usage(field):
    usage = {"promptTokenCount": 9, "thoughtsTokenCount": 5, "totalTokenCount": 14}

    event = one({"provider": "gemini", "model": "gemini-3", field: usage})

    assert event.kinds == Kinds(input=9, reasoning=5)


@pytest.mark.parametrize(
    ("given_kinds", "kinds"),
    [
        ({"totalTokens": 500}, Kinds(other=500)),
        ({"inputTokens": 3, "totalTokens": 5}, Kinds(input=3, other=2)),
        ({"inputTokens": 3, "otherTokens": 1, "totalTokens": 5}, Kinds(input=3, other=2)),
        ({"inputTokens": 3, "totalTokens": 3}, Kinds(input=3)),
        ({"inputTokens": 3, "totalTokens": 0}, Kinds(input=3)),
        *[({name: 0}, Kinds()) for name in event_body.OWN],
        ({"outputTokens": BIGINT_MAX}, Kinds(output=BIGINT_MAX)),
        ({"outputTokens": 7.0, "reasoningTokens": 1e3}, Kinds(output=7, reasoning=1000)),
    ],
)
def test_own_counts_are_disjoint_and_a_larger_total_is_reached(given_kinds, kinds):
    assert one({"provider": "p", "model": "m"} | given_kinds).kinds == kinds


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-22T11:00:00Z",
        "2026-11-22T12:00:00+01:00",
        "2026-11-22T11:00:00",
        "2026-11-22 11:00:00.000+00:00",
        1795345200,
        1795345200.0,
        1795345200000,
    ],
)
def test_times_are_understood_in_the_ways_clients_write_them(time):
    at = one(GOOD | {"time": time}).time

    assert at == datetime(2026, 11, 22, 11, 0, tzinfo=UTC)
    assert at.tzinfo is UTC


@pytest.mark.parametrize("ahead", [timedelta(microseconds=1), SKEW])
def test_a_clock_slightly_ahead_counts_as_now(ahead):
    assert one(GOOD | {"time": (NOW + ahead).isoformat()}).time == NOW


def test_the_oldest_time_that_is_kept_is_taken():
    assert one(GOOD | {"time": OLDEST.isoformat()}).time == OLDEST


@pytest.mark.parametrize(
    ("cost", "kept"),
    [
        ("0", "0"),
        ("-0.0", "0"),
        ("0.1", "0.1"),
        ("0.1234567891", "0.1234567891"),
        ("123456789.1234567891", "123456789.1234567891"),  # a float would end …7880
        ("0.00033000000000000005", "0.00033"),
        ("0.00000000005", "0"),
        ("0.00000000015", "0.0000000002"),
        ("1e-7", "0.0000001"),
        ("2.5E+1", "25"),
        ("1000000000", "1000000000"),
    ],
)
def test_a_cost_keeps_ten_decimals_of_what_was_written(cost, kept):
    body = written({k: json.dumps(v) for k, v in GOOD.items()} | {"costUsd": cost})
    slowly = body[:-1] + ',"inputTokens":10.0}'

    for text in (body, slowly):
        (event,) = decode(text).events
        assert event.cost_usd == Decimal(kept)
        assert not event.cost_usd.is_signed()


def test_ids_of_any_client_fit():
    assert one(TIMED | {"id": "x" * 1024}).id == "x" * 1024
    assert one(TIMED | {"id": "é" * 512}).id == "é" * 512


def test_what_is_not_known_is_neither_read_nor_kept():
    noise = {"messages": [{"content": SECRET}], "response": {"usage": SECRET}, "kind": 7}
    fine = decode(json.dumps([GOOD | noise]))
    bad = decode(json.dumps([TIMED | noise | {"provider": "", "inputTokens": SECRET}]))
    usage = decode(json.dumps([GOOD | {"usage": {"prompt": SECRET}}]))

    assert fine.events == [one(GOOD)]
    assert len(bad.errors) == 2
    assert len(usage.errors) == 1
    assert SECRET not in repr((fine, bad, usage))


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("provider", '""'),
        ("provider", '"  "'),
        ("provider", "null"),
        ("provider", "7"),
        ("provider", json.dumps("x" * 201)),
        ("model", '"a\\u0000b"'),
        ("model", '"\\ud800"'),
        ("userId", "7"),
        ("userId", '" "'),
        ("userId", '"a\\u0000"'),
        ("userId", json.dumps("x" * 201)),
        ("source", "[]"),
        ("source", '"\\u0000"'),
        ("source", json.dumps("x" * 201)),
        ("id", '""'),
        ("id", '" "'),
        ("id", "7"),
        ("id", '"a\\u0000"'),
        ("id", json.dumps("x" * 1025)),
        ("id", json.dumps("é" * 513)),
        ("inputTokens", "-1"),
        ("inputTokens", "1.5"),
        ("inputTokens", "NaN"),
        ("inputTokens", "-Infinity"),
        ("inputTokens", "1e400"),
        ("inputTokens", "1e99999999999999999999"),
        ("inputTokens", "9223372036854775808"),
        ("inputTokens", "9.223372036854775808e18"),
        ("inputTokens", '"5"'),
        ("inputTokens", "true"),
        ("inputTokens", "[]"),
        ("totalTokens", "-1"),
        ("totalTokens", "9"),
        ("costUsd", "-0.01"),
        ("costUsd", "1000000000.0001"),
        ("costUsd", "1e99999999999999999999"),
        ("costUsd", "NaN"),
        ("costUsd", '"0.5"'),
        ("costUsd", "true"),
        ("costUsd", "{}"),
        ("time", "null"),
        ("time", '""'),
        ("time", '"yesterday"'),
        ("time", '"2026-11-22T12:05:00.000001Z"'),
        ("time", '"2026-10-18T11:59:59Z"'),
        ("time", '"0001-01-01T00:00:00+12:00"'),
        ("time", '"9999-12-31T23:59:59-12:00"'),
        ("time", "1e300"),
        ("time", "1" + "0" * 400),
        ("time", "NaN"),
        ("time", "true"),
        ("time", "{}"),
        ("usage", "{}"),
        ("usage", "[]"),
        ("usage", '"prompt_tokens"'),
        ("usageMetadata", "7"),
    ],
)
def test_a_wrong_value_is_named_and_refused_alone(field, value):
    fields = {k: json.dumps(v) for k, v in TIMED.items()}
    if field.startswith("usage"):
        del fields["inputTokens"]
    text = written(fields | {field: value})
    good = json.dumps(GOOD)

    single = decode(text)
    many = decode(f"[{good}, {text} ,{good}]")

    assert faults(text) == {(field, None)}
    assert (single.events, list(single.indices), single.items) == ([], [], 1)
    assert faults(f"[{good}, {text} ,{good}]") == {(field, 1)}
    assert (many.events, list(many.indices), many.items) == ([one(GOOD)] * 2, [0, 2], 3)


@pytest.mark.parametrize(
    ("path", "usage"),
    [
        ("usage.prompt_tokens", '{"prompt_tokens":-1}'),
        ("usage.prompt_tokens", '{"prompt_tokens":"12"}'),
        ("usage.completion_tokens", '{"prompt_tokens":1,"completion_tokens":1.5}'),
        ("usage.total_tokens", '{"total_tokens":9223372036854775808}'),
        ("usage.prompt_tokens_details", '{"prompt_tokens_details":[]}'),
        ("usage.prompt_tokens_details.cached_tokens", written({DETAILS: '{"cached_tokens":true}'})),
        (
            "usage.cache_creation.ephemeral_5m_input_tokens",
            written({CREATION: f'{{"{FIVE}":NaN}}'}),
        ),
        ("usage.promptTokenCount", '{"promptTokenCount":{}}'),
        ("usage", '{"prompt_tokens":9223372036854775807,"completion_tokens":1}'),
        ("usage", '{"prompt_tokens":null}'),
    ],
)
def test_a_wrong_value_inside_usage_is_named(path, usage):
    text = written({"provider": '"p"', "model": '"m"', "usage": usage})

    assert faults(text) == {(path, None)}
    assert faults(f"[{text}]") == {(path, 0)}


@pytest.mark.parametrize(
    ("item", "paths"),
    [
        ({}, {"provider", "model", ""}),
        ({"provider": "p", "model": "m"}, {""}),
        ({"provider": "p", "model": "m", "inputTokens": None}, {""}),
        (GOOD | {"id": "a"}, {"time"}),
        (GOOD | {"usage": {"prompt_tokens": 1}}, {"usage"}),
        (GOOD | {"inputTokens": 0, "usage": {"prompt_tokens": 1}}, {"usage"}),
        (GOOD | {"usageMetadata": {"promptTokenCount": 1}}, {"usageMetadata"}),
        (
            {"provider": "p", "model": "m", "usage": {"total_tokens": 1}}
            | {"usageMetadata": {"totalTokenCount": 1}},
            {"usageMetadata"},
        ),
        (GOOD | {"outputTokens": BIGINT_MAX}, {""}),
        (
            {"id": 7, "provider": "", "inputTokens": -1, "costUsd": -1, "usage": {"x": 1}},
            {"id", "time", "provider", "model", "inputTokens", "costUsd", "usage"},
        ),
    ],
)
def test_all_that_is_wrong_with_an_item_is_named_at_once(item, paths):
    assert faults(json.dumps(item)) == {(path, None) for path in paths}


def test_a_time_whose_day_is_no_longer_kept_is_refused_with_a_word_for_programs():
    before = (OLDEST - timedelta(microseconds=1)).isoformat()
    (error,) = decode(json.dumps(TIMED | {"time": before})).errors

    assert error.path == "time"
    assert error.message.startswith(f"{event_body.TOO_OLD}: ")
    assert event_body.TOO_OLD == "tooOld"


@pytest.mark.parametrize("item", ["7", "null", "[]", '"x"', f"[{json.dumps(GOOD)}]"])
def test_an_item_that_is_no_object_is_refused_alone(item):
    good = json.dumps(GOOD)

    assert faults(f"[{good},{item}]") == {("", 1)}
    assert faults(f"{good}\n{item}\n") == {("", 1)}


@pytest.mark.parametrize("body", ["7", "null", '"x"', "{}"])
def test_a_single_thing_that_is_no_event_is_refused(body):
    assert ("", None) in faults(body)


@pytest.mark.parametrize("bad", [GOOD, {}])
def test_an_array_that_is_empty_or_too_long_is_refused_whole(bad):
    for body in ("[]", json.dumps([GOOD, GOOD, GOOD, bad]), f"{json.dumps(bad)}\n" * 4):
        with pytest.raises(Rejected) as caught:
            decode(body, max_batch=3, ndjson=body.startswith("{"))
        assert [(e.path, e.index) for e in caught.value.errors] == [("", None)]


@pytest.mark.parametrize(
    "body",
    [
        "",
        " \n\r\n\t",
        "{",
        "garbage",
        "garbage\nmore",
        '{"provider":}',
        json.dumps(GOOD)[:-1],
        f"[\n{json.dumps(GOOD)},\n{json.dumps(GOOD)}\n",
        f"[{json.dumps(GOOD)}]\n]",
        f"{json.dumps(GOOD)},{json.dumps(GOOD)}",
        json.dumps(GOOD) + json.dumps(GOOD),
        "[" * 100_000,
        '{"a":' * 20_000 + "1" + "}" * 20_000,
        json.dumps(GOOD).encode("utf-16"),
        b"\xff\xfe\xfd",
        json.dumps(GOOD)[:-1].encode() + b',"extra":"\xff"}',
        written({"inputTokens": "1" * 5000}),
    ],
)
def test_what_is_not_json_is_malformed(body):
    with pytest.raises(Malformed):
        decode(body)


def test_not_a_number_in_a_field_that_is_not_read_is_let_pass():
    text = json.dumps(GOOD)[:-1] + ',"logprobs":[NaN,-Infinity,"\\ud800"]}'

    assert decode(text).events == [one(GOOD)]
    assert decode(f"[{text}, {json.dumps(GOOD)}]").events == [one(GOOD)] * 2


# --- a line each ---------------------------------------------------------------------------


def test_lines_are_recognised_under_a_json_content_type():
    body = f"\n{json.dumps(TIMED)}\r\n\n  {json.dumps(GOOD)}  \n"

    for ndjson in (True, False):
        assert decode(body, ndjson=ndjson) == ([one(TIMED), one(GOOD)], [0, 1], [], 2)


def test_one_object_over_several_lines_is_one_event():
    assert decode(json.dumps(GOOD, indent=2)).events == [one(GOOD)]
    assert decode(json.dumps([GOOD], indent=2)).events == [one(GOOD)]
    assert faults(json.dumps({"provider": "p", "inputTokens": 1}, indent=2)) == {("model", None)}


@pytest.mark.parametrize("ndjson", [True, False])
def test_a_bad_line_is_refused_alone(ndjson):
    good, bad = json.dumps(GOOD).encode(), json.dumps(GOOD | {"inputTokens": -1}).encode()
    torn, latin = good[:20], good[:-1] + b',"x":"\xe9"}'
    body = b"\n".join(
        [torn, good, b"", bad, latin, b"garbage", good + good, b"\xef\xbb\xbf" + good]
    )

    decoded = decode(body, ndjson=ndjson)

    assert decoded.events == [one(GOOD)] * 2
    assert list(decoded.indices) == [1, 6]
    assert [(e.path, e.index) for e in decoded.errors] == [
        ("", 0),
        ("inputTokens", 2),
        ("", 3),
        ("", 4),
        ("", 5),
    ]
    assert decoded.items == 7


def test_declared_lines_may_all_be_refused():
    decoded = decode("garbage\nmore", ndjson=True)

    assert (decoded.events, decoded.items) == ([], 2)
    assert [e.index for e in decoded.errors] == [0, 1]


def test_a_body_of_blank_lines_costs_no_memory_a_line():
    with pytest.raises(Malformed):
        decode(b"\n \r" * 3_000_000, ndjson=True)


@pytest.mark.parametrize("body", [json.dumps(GOOD), json.dumps([GOOD])])
def test_a_byte_order_mark_is_skipped(body):
    assert decode(b"\xef\xbb\xbf" + body.encode()).events == [one(GOOD)]


# --- whatever comes ------------------------------------------------------------------------


def check(decoded: DecodedEvents) -> None:
    assert len(decoded.events) == len(decoded.indices)
    refused = {error.index or 0 for error in decoded.errors}
    assert sorted([*decoded.indices, *refused]) == list(range(decoded.items))
    for event in decoded.events:
        assert min(event.kinds) >= 0
        assert event.total == sum(event.kinds) <= BIGINT_MAX
        assert all(type(count) is int for count in event.kinds)
        assert event.time is None or OLDEST <= event.time <= NOW
        assert event.time is not None or event.id is None
        assert event.cost_usd is None or 0 <= event.cost_usd <= event_body.COST_MAX
        texts = (event.source, event.id or "", event.provider, event.model, event.user_id)
        assert "\0" not in "".join(texts).encode().decode()


def outcome(body: bytes | str, **options: Any) -> DecodedEvents | str:
    try:
        decoded = decode(body, **options)
    except (Malformed, Rejected) as error:
        return f"{type(error).__name__}: {error}"
    check(decoded)
    return decoded._replace(indices=list(decoded.indices))


_pieces = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ",", ":", "\n", " ", '"', "\\ud83d", "NaN", "-", "1e9", "9" * 25, "0"]
        + [f'"{name}"' for name in ("provider", "model", "usage", "prompt_tokens", "inputTokens")]
        + [json.dumps(GOOD), json.dumps(TIMED), "null", "true", "\0", "é", "\ufeff"]
    ),
    max_size=12,
).map(lambda pieces: "".join(pieces).encode())


@given(st.binary(max_size=200) | _pieces, st.booleans())
def test_no_bytes_make_it_crash(body, ndjson):
    outcome(body, ndjson=ndjson)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_counts = st.integers(0, 5000) | st.sampled_from([None, 0, 12.0, BIGINT_MAX, BIGINT_MAX + 1, -1])
_texts = st.text(max_size=5) | st.sampled_from([None, "a", "", " ", "é" * 600, "a\0", "x" * 201])
_usage = st.dictionaries(
    st.sampled_from(
        "prompt_tokens completion_tokens input_tokens output_tokens total_tokens prompt "
        "cache_read_input_tokens promptTokenCount thoughtsTokenCount".split()
    ),
    _counts | _json,
    max_size=4,
)
_details = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens_details": st.dictionaries(st.just("cached_tokens"), _counts),
        "completion_tokens_details": st.dictionaries(st.just("reasoning_tokens"), _counts),
        "cache_creation": st.dictionaries(st.just("ephemeral_1h_input_tokens"), _counts),
    },
)
_times = st.sampled_from([None, NOW.isoformat(), 0, 1795345200, 1795345200.25]) | st.sampled_from(
    ["2026-11-22T11:00:00Z", "2026-11-22T12:04:00Z", "2026-11-22T13:00:00Z", "2026-01-01", "x"]
)
_fields = {
    "id": _texts,
    "time": _times,
    "source": _texts,
    "userId": _texts,
    "costUsd": st.none() | st.floats(0, 10) | _json,
    "usage": st.builds(lambda a, b: a | b, _usage, _details) | _json,
    "usageMetadata": st.none() | _usage,
    **dict.fromkeys(event_body.OWN, _counts),
    "content": _json,
}
_wild = st.fixed_dictionaries({}, optional=_fields | {"provider": _texts, "model": _json})
_few = st.integers(0, 99)
_own = st.dictionaries(st.sampled_from(event_body.OWN[:-1]), _few, min_size=1)
_provided = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "cache_read_input_tokens"]),
    _few,
    min_size=1,
)
_right = st.builds(
    lambda who, when, counts, cost: {"provider": "p", "model": "m"} | who | when | counts | cost,
    st.fixed_dictionaries(
        {}, optional={"source": st.just("s"), "userId": st.text("ué", max_size=3)}
    ),
    st.sampled_from([{}, {"time": 1795345200.25}, {"id": "a", "time": "2026-11-22T12:04:00Z"}]),
    _own | st.builds(lambda usage: {"usage": usage}, _provided),
    st.fixed_dictionaries({}, optional={"costUsd": st.floats(0, 100), "content": _json}),
)
_items = _right | st.builds(
    lambda item, wild, some: item | {name: wild[name] for name in list(wild)[:some]},
    _right,
    _wild,
    st.integers(1, 3),
)


@given(_items)
def test_the_fast_and_the_slow_decoder_agree(item):
    text = json.dumps(item)
    slowly = '{"refused by the fast decoder":NaN,' + text[1:]

    assert outcome(slowly) == outcome(text)
    assert isinstance(outcome(f"[{text}]"), DecodedEvents)


@given(_items)
def test_an_item_meets_the_same_fate_in_any_company(item):
    text = json.dumps(item)
    alone = outcome(f"[{text}]")
    assert isinstance(alone, DecodedEvents)

    for body in (f"[{text},{{}}]", f"{text}\n{{}}", f"{text}\n\n{{}}\n"):
        together = outcome(body)
        assert isinstance(together, DecodedEvents)
        assert together.events == alone.events
        assert [e for e in together.errors if e.index == 0] == alone.errors
        assert together.items == 2


@given(
    st.lists(_items, min_size=2, max_size=6),
    st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]), min_size=6, max_size=6),
)
def test_lines_are_decoded_as_an_array_is(batch, ends):
    texts = [json.dumps(item) for item in batch]
    lines = "".join(text + end for text, end in zip(texts, ends, strict=False))
    as_array = outcome(f"[{','.join(texts)}]")

    for ndjson in (True, False):
        as_lines = outcome(lines, ndjson=ndjson)
        assert isinstance(as_array, DecodedEvents)
        assert isinstance(as_lines, DecodedEvents)
        assert as_lines.events == as_array.events
        assert list(as_lines.indices) == list(as_array.indices)
        assert as_lines.errors == as_array.errors


def test_the_description_of_the_body_knows_every_field_that_is_read():
    schema = TypeAdapter(event_body.EventBody).json_schema()

    assert set(schema["properties"]) == set(events._Wire.__struct_encode_fields__)
    assert schema["required"] == ["provider", "model"]
    assert schema["properties"]["costUsd"]["anyOf"][0]["type"] == "number"


@pytest.mark.parametrize("number", ["1e99999999", "-1e99999999", "1e-99999999"])
def test_a_number_beyond_any_arithmetic_is_refused_alone(number: str):
    item = '{"provider":"p","model":"m","inputTokens":%s}'
    decoded = decode(f"[{item % number},{item % 1}]")

    assert [event.input for event in decoded.events] == [1]
    assert {(error.path, error.index) for error in decoded.errors} == {("inputTokens", 0)}
