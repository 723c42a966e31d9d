"""Bad input: told what is wrong with it, whole and exactly, and harming nobody else."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import logging
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.http.client import STATUS, UPDATE, Client, raw, serving, snapshot
from tests.support.daemon import configure
from tests.support.postgres import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 64 * 1024
BATCH = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A daemon with narrow bounds."""
    config = configure(
        tmp_path_factory.mktemp("strict"),
        shared_database.dsn,
        ingest={"max_body": "64KiB", "max_batch": BATCH},
    )
    async with serving(config) as client:
        yield client


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _nothing_is_stored(client: Client, strict: Client) -> AsyncIterator[None]:
    """Whatever a test of this module sends wrong must not be stored in part either."""
    yield
    names = {
        s.name for s in await client.samples("usage") if s.labels.get("model", "fine") != "fine"
    }
    assert names == set()


# --- values --------------------------------------------------------------------------------

WRONG = [
    ("provider", '""'),
    ("provider", '" \\t "'),
    ("provider", "null"),
    ("provider", "7"),
    ("provider", '["grok"]'),
    ("provider", json.dumps("x" * 201)),
    ("provider", '"a\\u0000b"'),
    ("model", '"\\ud83d"'),
    ("model", '"\\udc00\\ud800"'),
    ("userId", "false"),
    ("userId", '"\\u0000"'),
    ("userId", json.dumps("ü" * 201)),
    ("tokensUsed", "-1"),
    ("tokensUsed", "0.5"),
    ("tokensUsed", "NaN"),
    ("tokensUsed", "-Infinity"),
    ("tokensUsed", "1e999"),
    ("tokensUsed", "9223372036854775808"),
    ("tokensUsed", '"1000"'),
    ("tokensUsed", "true"),
    ("tokensUsed", "{}"),
    ("tokenLimit", "-2"),
    ("tokenLimit", "NaN"),
    ("tokenLimit", "1e19"),
    ("tokenLimit", '"none"'),
    ("timestamp", '"tomorrow"'),
    ("timestamp", '"2999-01-01T00:00:00Z"'),
    ("timestamp", '"1969-12-31T23:59:59Z"'),
    ("timestamp", "NaN"),
    ("timestamp", "{}"),
]


def _object(**written: str) -> str:
    fields = {k: json.dumps(v) for k, v in snapshot(model="fine").items()} | written
    return "{" + ",".join(f'"{k}":{v}' for k, v in fields.items()) + "}"


@pytest.mark.parametrize(("field", "value"), WRONG)
async def test_a_wrong_value_is_named(client: Client, field: str, value: str):
    alone = await client.update(_object(**{field: value}))
    third = await client.update(f"[{_object()},{_object()},{_object(**{field: value})}]")

    assert alone.fields() == {(field, None)}
    assert third.fields() == {(field, 2)}
    assert all(e["message"] for e in third.json["errors"])


@pytest.mark.parametrize("field", ["provider", "model", "tokensUsed", "tokenLimit"])
async def test_a_missing_field_is_named(client: Client, field: str):
    body = snapshot(model="fine")
    del body[field]

    assert (await client.update(body)).fields() == {(field, None)}
    assert (await client.update([snapshot(model="fine"), body])).fields() == {(field, 1)}


async def test_every_fault_of_every_item_is_named_at_once(client: Client):
    body = [
        snapshot(model="unseen"),
        {"provider": "", "tokensUsed": -1, "tokenLimit": -5, "userId": 1},
        [],
        {},
        "x",
    ]
    every = {"provider", "model", "tokensUsed", "tokenLimit"}

    assert (await client.update(body)).fields() == (
        {(f, 1) for f in every | {"userId"}} | {("", 2), ("", 4)} | {(f, 3) for f in every}
    )


@pytest.mark.parametrize("body", ["null", "5", '"text"', "[]", "true", "[[]]"])
async def test_json_that_holds_no_report_is_refused(client: Client, body: str):
    reply = await client.update(body)

    assert {field for field, _ in reply.fields()} == {""}


async def test_a_long_list_of_faults_is_cut_and_says_so(client: Client):
    found = (await client.update([{}] * 300)).problem(422)

    assert len(found["errors"]) == 1000
    assert found["errorsLeftOut"] == 200


async def test_more_items_than_a_batch_may_have_are_refused(strict: Client):
    fine = [snapshot(model="fine")] * BATCH

    assert (await strict.update(fine)).status == 200
    found = (await strict.update([*fine, snapshot(model="fine")])).problem(422)
    assert "21" in found["errors"][0]["message"]
    assert "20" in found["errors"][0]["message"]


# --- syntax --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"provider": }',
        b"[1,]",
        b"{'a': 1}",
        b"[" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"\xff\xfe{}",
        json.dumps(snapshot()).encode("utf-16"),
        b'{"provider": "caf\xe9"}',
        b'{"tokensUsed": ' + b"9" * 5_000 + b"}",
        _object(extra="NaN").encode(),
        json.dumps(snapshot()).encode() + b"}",
    ],
)
async def test_what_is_not_json_is_malformed(client: Client, body: bytes):
    (await client.update(body)).problem(400)


async def test_a_post_without_any_body_is_malformed(client: Client):
    (await client.post(UPDATE, skip_auto_headers=["Content-Type"])).problem(400)


async def test_a_byte_order_mark_is_let_pass(client: Client):
    body = b"\xef\xbb\xbf" + json.dumps(snapshot(model="fine")).encode()

    assert (await client.update(body)).status == 200


# --- size ----------------------------------------------------------------------------------


def _padded(size: int) -> bytes:
    body = json.dumps(snapshot(model="fine")).encode()
    return body + b" " * (size - len(body))


async def _in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 8_000):
        yield body[start : start + 8_000]


async def test_a_body_of_the_largest_size_is_taken(strict: Client):
    assert (await strict.update(_padded(LIMIT))).status == 200
    assert (
        await strict.post(
            UPDATE, data=_in_chunks(_padded(LIMIT)), headers={"Content-Type": "application/json"}
        )
    ).status == 200


async def test_a_body_that_declares_to_be_too_large_is_refused(strict: Client):
    found = (await strict.update(_padded(LIMIT + 1))).problem(413)

    assert "ingest.max_body" in found["detail"]


async def test_it_is_refused_before_it_is_sent(strict: Client):
    head = (
        f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 99999999999\r\nConnection: close\r\n\r\n"
    )
    host, _, port = strict.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    async with asyncio.timeout(5):
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_body_of_undeclared_length_is_refused_once_it_is_too_large(strict: Client):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * LIMIT:
            sent += 8_000
            yield b" " * 8_000

    reply = await strict.post(UPDATE, data=endless(), headers={"Content-Type": "application/json"})

    reply.problem(413)


async def test_more_values_than_could_be_explained_are_refused(client: Client):
    """9 MB that would take 200 MB as objects."""
    body = gzip.compress(b"[[" + b"[]," * 3_000_000 + b"[]]]")
    (await client.update(body, headers={"Content-Encoding": "gzip"})).problem(413)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_values = st.dictionaries(
    st.sampled_from(["provider", "tokensUsed", "tokenLimit", "userId", "timestamp", "other"]), _json
).map(lambda changes: json.dumps(snapshot(model="fine") | changes).encode())


@given(st.binary() | _json.map(json.dumps).map(str.encode) | _values)
async def test_whatever_is_sent_is_answered(client: Client, body: bytes):
    assert (await client.update(body)).status in (200, 400, 422)
    packed = await client.update(body, headers={"Content-Encoding": "deflate"})
    assert packed.status in (200, 400, 422)


# --- encodings -----------------------------------------------------------------------------

FINE = json.dumps(snapshot(model="fine")).encode()


def _raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(body) + deflater.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(FINE)),
        ("GZIP", gzip.compress(FINE)),
        ("x-gzip", gzip.compress(FINE)),
        ("deflate", zlib.compress(FINE)),
        ("deflate", _raw_deflate(FINE)),
        ("identity", FINE),
        ("", FINE),
        ("gzip", gzip.compress(b"[" + b",".join([FINE] * 10_000) + b"]")),  # off the event loop
    ],
    ids=itertools.count(),
)
async def test_a_compressed_body_is_read(client: Client, encoding: str, body: bytes):
    assert (await client.update(body, headers={"Content-Encoding": encoding})).status == 200


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x" * 200])
async def test_an_encoding_that_is_not_read_is_named(client: Client, encoding: str):
    found = (await client.update(FINE, headers={"Content-Encoding": encoding})).problem(415)

    assert encoding[:40] in found["detail"]
    assert "gzip" in found["detail"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", FINE),
        ("deflate", FINE),
        ("gzip", gzip.compress(FINE)[:-1]),
        ("gzip", gzip.compress(FINE)[:-12]),
        ("gzip", gzip.compress(FINE)[:5]),
        ("gzip", b""),
        ("deflate", zlib.compress(FINE)[:-2]),
        ("gzip", gzip.compress(FINE)[:-8] + b"\0" * 8),  # wrong checksum
        ("gzip", gzip.compress(b"[" + FINE) + gzip.compress(b"," + FINE + b"]")),
        ("gzip", gzip.compress(FINE) + b"junk"),
        ("gzip", gzip.compress(b" " * 1_000_000 + FINE)[:-30]),
    ],
    ids=itertools.count(),
)
async def test_what_is_not_what_its_encoding_says_is_malformed(
    client: Client, encoding: str, body: bytes
):
    (await client.update(body, headers={"Content-Encoding": encoding})).problem(400)


async def test_a_body_that_grows_too_large_is_refused(strict: Client):
    body = gzip.compress(_padded(LIMIT + 1))

    assert len(body) < 1_000
    (await strict.update(body, headers={"Content-Encoding": "gzip"})).problem(413)
    body = gzip.compress(_padded(LIMIT))
    assert (await strict.update(body, headers={"Content-Encoding": "gzip"})).status == 200


async def test_a_bomb_takes_bounded_memory(strict: Client):
    bomb = gzip.compress(bytes(50 * 1024 * 1024))
    assert len(bomb) < LIMIT
    tracemalloc.start()  # the daemon runs in this process
    try:
        (await strict.update(bomb, headers={"Content-Encoding": "gzip"})).problem(413)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 * 1024 * 1024


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "x"]
)
async def test_another_type_is_unsupported(client: Client, kind: str):
    found = (await client.post(UPDATE, data=FINE, headers={"Content-Type": kind})).problem(415)

    assert "application/json" in found["detail"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
async def test_json_under_its_other_names_is_read(client: Client, kind: str):
    reply = await client.post(UPDATE, data=FINE, headers={"Content-Type": kind})

    assert reply.status == 200


async def test_a_body_without_a_type_is_taken_for_json(client: Client):
    reply = await client.post(UPDATE, data=FINE, skip_auto_headers=["Content-Type"])

    assert reply.status == 200


# --- requests ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nothing", "/api/token-monitor", UPDATE + "/", "//", "/-/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_an_unknown_path_is_not_found(client: Client, method: str, path: str):
    (await client.call(method, path)).problem(404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", UPDATE, "POST"),
        ("HEAD", UPDATE, "POST"),
        ("PUT", UPDATE, "POST"),
        ("POST", STATUS, "GET, HEAD"),
        ("OPTIONS", STATUS, "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("PROPFIND", "/-/healthy", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    client: Client, method: str, path: str, allowed: str
):
    reply = await client.call(method, path)

    assert reply.headers["Allow"] == allowed
    if method != "HEAD":
        assert allowed in reply.problem(405)["detail"]


@pytest.mark.parametrize("path", [STATUS, "/metrics", "/-/healthy", "/-/ready", "/openapi.json"])
async def test_head_is_get_without_the_body(client: Client, path: str):
    head, get = await client.call("HEAD", path), await client.get(path)

    assert (head.status, get.status) == (200, 200)
    assert head.body == b""
    assert get.body
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize(
    "request_text",
    [
        "NONSENSE\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET {STATUS} HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
async def test_what_is_not_http_is_answered_with_400(
    client: Client, request_text: str, caplog: pytest.LogCaptureFixture
):
    status, _ = await raw(client.url, request_text.encode("latin-1"))

    assert status == 400
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        (f"GET {STATUS} HTTP/1.1\r\nHost: localhost\r\nX: {'y' * 100_000}\r\n\r\n", 431),
        (f"GET /{'y' * 100_000} HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    ],
)
async def test_a_head_that_is_too_large_is_refused_and_not_logged(
    client: Client, request_text: str, expected: int, caplog: pytest.LogCaptureFixture
):
    status, _ = await raw(client.url, request_text.encode("latin-1"))

    assert status == expected
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_client_that_gives_up_half_way_is_no_fault_of_the_daemon(
    tmp_path: Path,
    dsn: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    async with serving(configure(tmp_path, dsn)) as client:
        host, _, port = client.url.removeprefix("http://").partition(":")
        for framing in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\n{framing}\r\n\r\n".encode()
            )
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        healthy = await client.get("/-/healthy")

    assert healthy.status == 200
    assert capfd.readouterr().err == ""
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
