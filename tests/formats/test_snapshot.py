"""The update body: what is right is taken, what is wrong is named."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.usage import Snapshot
from quotabell.errors import Malformed, Rejected
from quotabell.formats import snapshot

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GOOD = {"provider": "grok", "model": "grok-3", "tokensUsed": 1000, "tokenLimit": 10000}


def decode(body: bytes | str) -> snapshot.Decoded:
    raw = body.encode() if isinstance(body, str) else body
    return snapshot.decode(raw, now=NOW, future_skew=timedelta(minutes=5), max_batch=3)


def faults(body: bytes | str) -> set[tuple[str, int | None]]:
    with pytest.raises(Rejected) as caught:
        decode(body)
    assert all(e.message for e in caught.value.errors)
    return {(e.path, e.index) for e in caught.value.errors}


def test_the_original_body_is_taken():
    body = json.dumps(GOOD | {"userId": "test-user"})

    assert decode(body) == ([Snapshot("grok", "grok-3", 1000, 10000, "test-user")], False)


def test_an_array_stays_an_array():
    decoded = decode(json.dumps([GOOD]))

    assert decoded.is_array
    assert len(decoded.snapshots) == 1


@pytest.mark.parametrize("limit", [0, -1, None])
def test_an_unknown_limit_is_none(limit):
    assert decode(json.dumps(GOOD | {"tokenLimit": limit})).snapshots[0].token_limit is None


def test_a_whole_number_written_as_a_float_is_one():
    assert decode(json.dumps(GOOD | {"tokensUsed": 1000.0})).snapshots[0].tokens_used == 1000


def test_unknown_fields_are_ignored():
    assert decode(json.dumps(GOOD | {"session": {"id": 1}})).snapshots[0].model == "grok-3"


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-22T11:00:00Z",
        "2026-11-22T12:00:00+01:00",
        "2026-11-22T11:00:00",
        1795345200,
        1795345200000,
    ],
)
def test_times_are_understood_in_the_ways_clients_write_them(written):
    at = decode(json.dumps(GOOD | {"timestamp": written})).snapshots[0].timestamp

    assert at == datetime(2026, 11, 22, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("provider", '""'),
        ("provider", '"  "'),
        ("provider", "null"),
        ("provider", "7"),
        ("provider", json.dumps("x" * 201)),
        ("model", '"a\\u0000b"'),
        ("model", '"\\ud800"'),
        ("userId", "7"),
        ("userId", '"a\\u0000"'),
        ("userId", json.dumps("x" * 201)),
        ("tokensUsed", "-1"),
        ("tokensUsed", "1.5"),
        ("tokensUsed", "NaN"),
        ("tokensUsed", "Infinity"),
        ("tokensUsed", "1e400"),
        ("tokensUsed", "9223372036854775808"),
        ("tokensUsed", '"5"'),
        ("tokensUsed", "true"),
        ("tokensUsed", "null"),
        ("tokensUsed", "[]"),
        ("tokenLimit", "-2"),
        ("tokenLimit", "9223372036854775808"),
        ("tokenLimit", '"unlimited"'),
        ("timestamp", '"yesterday"'),
        ("timestamp", '"2026-11-22T12:06:00Z"'),
        ("timestamp", '"1969-12-31T23:59:59Z"'),
        ("timestamp", '"0001-01-01T00:00:00+12:00"'),
        ("timestamp", '"9999-12-31T23:59:59-12:00"'),
        ("timestamp", "1e300"),
        ("timestamp", "NaN"),
        ("timestamp", "true"),
    ],
)
def test_a_wrong_value_is_named(field, written):
    body = {k: json.dumps(v) for k, v in GOOD.items()} | {field: written}
    text = "{" + ",".join(f'"{k}":{v}' for k, v in body.items()) + "}"

    assert faults(text) == {(field, None)}
    assert faults(f"[{json.dumps(GOOD)},{text}]") == {(field, 1)}


def test_every_fault_of_every_item_is_named_at_once():
    body = json.dumps([GOOD | {"tokensUsed": -1, "provider": ""}, {"provider": "p"}, 7])

    assert faults(body) == {
        ("tokensUsed", 0),
        ("provider", 0),
        ("model", 1),
        ("tokensUsed", 1),
        ("tokenLimit", 1),
        ("", 2),
    }


@pytest.mark.parametrize("body", ["[]", json.dumps([GOOD] * 4), "null", '"x"', "7"])
def test_what_holds_no_reports_is_refused(body):
    assert faults(body) == {("", None)}


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "{",
        '{"provider":}',
        "[" * 100_000,
        '{"a":' * 20_000 + "1" + "}" * 20_000,
        json.dumps(GOOD)[:-1] + ',"extra":NaN}',
        json.dumps(GOOD).encode("utf-16"),
        b"\xff\xfe\xfd",
        '{"tokensUsed":' + "1" * 5000 + "}",
    ],
)
def test_what_is_not_json_is_malformed(body):
    with pytest.raises(Malformed):
        decode(body)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_crash(body):
    with contextlib.suppress(Malformed, Rejected):
        decode(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "userId", "timestamp"]), _json))
def test_no_values_make_it_crash(values):
    body = json.dumps(GOOD | values)
    with contextlib.suppress(Malformed, Rejected):
        for item in decode(body).snapshots:
            assert 0 <= item.tokens_used < 2**63
            assert item.token_limit is None or 0 < item.token_limit < 2**63
            assert item.provider.strip()
            assert item.model.strip()
