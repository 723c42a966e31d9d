"""JSON that is read in small steps is what it is when it is decoded at once."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell.errors import Malformed, TooLarge
from quotabell.formats import items, json_reader
from quotabell.formats.json_compact import compact
from quotabell.formats.json_reader import Reader

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SCALARS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | TEXTS | st.just(1.25e-7)
VALUES = st.recursive(
    SCALARS,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(TEXTS, v, max_size=4),
    max_leaves=12,
)
MIB = 1024 * 1024


@pytest.fixture(params=[7, 64, MIB])
def step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Windows so small that values cross their edges, and so large that none does."""
    monkeypatch.setattr(json_reader, "_STEP", request.param)
    monkeypatch.setattr(json_reader, "_SETTLED", min(16, request.param))
    monkeypatch.setattr(json_reader, "AT_ONCE", 16 * request.param)
    return int(request.param)


@pytest.mark.parametrize("size", [18, 64, MIB])
@given(st.lists(VALUES, max_size=8), st.booleans(), st.sampled_from([None, 1, "\t"]))
@settings(max_examples=60)
def test_each_element_is_what_it_is_at_once(
    size: int, values: list[Any], ascii_only: bool, indent: int | str | None
) -> None:
    body = json.dumps(values, ensure_ascii=ascii_only, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "_STEP", size)
        patch.setattr(json_reader, "AT_ONCE", 1000 * size)
        reader = Reader(body)
        assert [reader.value() for _ in reader.elements()] == values
        reader = Reader(memoryview(body))
        assert [json.loads(reader.raw()) for _ in reader.elements()] == values
        assert not reader.peek()


@given(VALUES)
def test_a_value_without_its_long_texts_is_the_same_value(value: Any) -> None:
    body = b"  " + json.dumps(value).encode() + b" , 1"
    if isinstance(value, list | dict | str):
        raw, end = compact(body, 2)
        assert (json.loads(raw), end) == (value, len(body) - 4)


@pytest.mark.parametrize("escape", ["", '\\"', "\\\\", '\\\\\\"', "\\u00e9", "é"])
def test_of_a_large_value_long_texts_are_left_out(escape: str) -> None:
    long = escape + "x" * (5 * MIB) + escape
    body = f'[{{"a": 1, "messages": ["{long}", {{"b": "{long}"}}], "usage": 7}}, 8]'.encode()
    reader = Reader(body)
    first, second = (reader.value() for _ in reader.elements())

    assert (first["a"], first["usage"], second) == (1, 7, 8)
    left = first["messages"][0]
    assert left == first["messages"][1]["b"]
    assert len(left) == 64


def test_of_a_large_item_long_arrays_are_left_out() -> None:
    call = {"id": "a", "usage": {"details": [1, 2]}, "n": 7}
    long = {"vector": [0.25] * (MIB // 4), "messages": [{"role": "user"}] * (MIB // 8)}
    (found,) = items.each(json.dumps([call | long]).encode(), 1)

    assert json.loads(found) == call | {"vector": [], "messages": []}


def test_of_a_large_value_arrays_of_objects_stay() -> None:
    points = [{"at": n, "buckets": [n] * 30} for n in range(12_000)]
    value = {"points": points, "vector": list(range(300_000)), "name": "m"}
    reader = Reader(json.dumps(value).encode())

    assert reader.value(dict) == value | {"vector": []}


@pytest.mark.parametrize(
    "body",
    [
        b'[{"a":{' + b",".join(b'"%d":1' % n for n in range(300_000)) + b"}}]",
        b"[{" + b",".join(b'"%d":{"b":"%s"}' % (n, b"c" * 900) for n in range(10_000)) + b"}]",
    ],
    ids=["no object ends for long", "too much for one step"],
)
def test_an_item_that_would_be_decoded_in_one_long_step_is_refused(body: bytes) -> None:
    with pytest.raises(TooLarge, match="bytes"):
        list(items.each(body, 1))


@pytest.mark.parametrize(
    "item",
    [
        {"vector": [0.125] * 400_000},
        {"texts": ["t" * 20] * 150_000},
        {"nested": [[]] * 800_000},
        {"messages": [{"role": "user", "content": "z" * 500}] * 6_000},
    ],
    ids=lambda item: next(iter(item)),
)
def test_no_single_step_decodes_much_of_a_large_item(
    item: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads run between objects and between calls: none reads over 2 MiB without."""
    steps = []

    class Decoder(json.JSONDecoder):
        def raw_decode(self, text: str, at: int = 0) -> tuple[Any, int]:
            steps.append(longest_without_an_object(text[at:]))
            return super().raw_decode(text, at)

    monkeypatch.setattr(json, "JSONDecoder", Decoder)
    body = json.dumps([item | {"litellm_call_id": "a"}]).encode()
    assert len(body) > 2.5e6
    (found,) = items.each(body, 1)

    assert json.loads(found)["litellm_call_id"] == "a"
    assert len(found) < 1_000_000
    assert 0 < max(steps) <= 2 * MIB


def longest_without_an_object(text: str) -> int:
    return max(map(len, text.split("}")))


def test_names_and_values_of_an_object_come_in_order(step: int) -> None:
    reader = Reader(
        b'\xef\xbb\xbf {"a": [1, {"x": null}], "skipped": {"y": [2]},\n "\\u00e9": -1.5e3}'
    )
    found = {}
    for name in reader.members():
        if name == "skipped":
            reader.skip()
        else:
            found[name] = reader.value()
    assert found == {"a": [1, {"x": None}], "é": -1500.0}
    assert not reader.peek()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"[1, 2", "Expecting ',' delimiter at line 1 column 6"),
        (b"[1\n, 2}", "Expecting ',' delimiter at line 2 column 4"),
        (b'[{"a" 1}]', "Expecting ':' delimiter at line 1 column 7"),
        (b'["a]', "Unterminated string starting at at line 1 column 2"),
        (b"[1, tru]", "Expecting value at line 1 column 5"),
        (b'["\xff"]', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "too many digits"),
    ],
)
def test_what_is_broken_is_told_by_its_place(body: bytes, fault: str) -> None:
    with pytest.raises(Malformed, match=fault):
        list(items.each(body, 100))


@given(st.binary(max_size=60) | VALUES.map(lambda v: json.dumps(v).encode()[:-1]))
def test_whatever_is_sent_is_read_or_refused(body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "_STEP", 18)
        patch.setattr(json_reader, "AT_ONCE", 40)
        try:
            list(items.each(body, 100))
        except (Malformed, TooLarge, items.Rejected):
            pass


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b" " * 500_000 + b"]",
        b'["' + b"\\" * 500_000 + b'"]',
        b'["' + b'\\"' * 250_000 + b'"]',
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b"[" + b"1," * 250_000,
        b"[[" + b"[]," * 50_000,
        b"[" + b"9" * 500_000,
        b'[{"a":"' + b"x" * 500_000,
    ],
)
def test_hostile_text_costs_no_more_than_its_size(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_reader, "_STEP", 32 * 1024)
    monkeypatch.setattr(json_reader, "AT_ONCE", 128 * 1024)
    tracemalloc.start()
    begun = time.thread_time()
    try:
        list(items.each(body, 10))
    except (Malformed, TooLarge, items.Rejected):
        pass
    taken, (_, peak) = time.thread_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < 30  # some tenths, a hundred times that if it grew with the square
    assert peak < 100 * len(body)
