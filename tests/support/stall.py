"""Large bodies of every format, and how long they hold an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time, time_ns
from typing import Any, NamedTuple
from uuid import uuid4

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SIZE = 30_000_000  # bytes of a body
BUDGET = 0.025  # seconds

_ITEMS = 10_000  # of a body at most
_SEND = """
import http.client, sys
path, kind, encoding, port, file = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
connection.request("POST", path, open(file, "rb").read(), {"Content-Type": kind,
    "Content-Encoding": encoding})
print(connection.getresponse().status)
"""


class Large(NamedTuple):
    """How a format's large body is made, and where it goes."""

    path: str
    kind: str
    make: Callable[[], bytes]
    encoding: str = "identity"


def _json(item: Callable[[int], dict[str, Any]], items: int) -> bytes:
    room = SIZE // items - len(json.dumps(item(0))) - 20
    filler = {"messages": "y" * room}
    return json.dumps([item(n) | filler for n in range(items)]).encode()


def _litellm() -> bytes:
    """Its largest batches are of 512 calls, with their messages."""

    def call(n: int) -> dict[str, Any]:
        return {
            "litellm_call_id": str(uuid4()),
            "status": "success",
            "custom_llm_provider": "openai",
            "model": "large",
            "endTime": time_ns() / 1e9,
            "prompt_tokens": n + 1,
            "completion_tokens": 5,
            "model_map_information": {"key": ["x" * 50] * 20},
        }

    return _json(call, 512)


def _cloudevents() -> bytes:
    def event(n: int) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            **{"id": str(uuid4()), "source": "large", "type": "prompt", "subject": f"u{n % 50}"},
            "time": datetime.now(UTC).isoformat(),
            "data": {"model": "large", "prompt_tokens": n + 1, "completion_tokens": 5},
        }

    return _json(event, 3_000)


def _events() -> bytes:
    def event(n: int) -> dict[str, Any]:
        return {
            **{"id": str(uuid4()), "time": time_ns() / 1e9, "provider": "openai"},
            **{"model": "large", "userId": f"u{n % 50}", "inputTokens": n + 1},
        }

    return _json(event, _ITEMS)


def _snapshots() -> bytes:
    def snapshot(n: int) -> dict[str, Any]:
        return {"provider": "openai", "model": f"m{n}", "tokensUsed": n, "tokenLimit": 10**9}

    return _json(snapshot, _ITEMS)


def _otlp_protobuf() -> bytes:
    """An exporter's largest batches are of 512 spans, unless it is told otherwise."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for n in range(500):
        span = spans.add(trace_id=uuid4().bytes, span_id=uuid4().bytes[:8])
        span.end_time_unix_nano = time_ns()
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = n + 1
        span.attributes.add(key="gen_ai.request.model").value.string_value = "large"
        span.attributes.add(key="gen_ai.prompt").value.string_value = "y" * (SIZE // 500)
    body: bytes = request.SerializeToString()
    return body


def _varied() -> bytes:
    """As before, with texts that shrink to a half only."""
    request = ExportTraceServiceRequest.FromString(_otlp_protobuf())
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.attributes[2].value.string_value = os.urandom(SIZE // 1_000).hex()
    body: bytes = request.SerializeToString()
    return body


def _otlp_json() -> bytes:
    def span(n: int) -> dict[str, Any]:
        return {
            **{"traceId": uuid4().hex, "spanId": uuid4().hex[:16], "name": "chat"},
            "endTimeUnixNano": str(time_ns()),
            "attributes": [
                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": str(n + 1)}},
                {"key": "gen_ai.request.model", "value": {"stringValue": "large"}},
                {"key": "gen_ai.prompt", "value": {"stringValue": "y" * (SIZE // 3_000 - 350)}},
            ],
        }

    scopes = [{"scope": {"name": "own"}, "spans": [span(n) for n in range(3_000)]}]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "large"}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}).encode()


def _one_metric() -> bytes:
    """All in one metric: its points are read one by one as well."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "gen_ai.client.token.usage"
    metric.histogram.aggregation_temporality = 1
    for n in range(5_000):
        point = metric.histogram.data_points.add(sum=n + 1, count=1, time_unix_nano=time_ns())
        point.attributes.add(key="gen_ai.token.type").value.string_value = "input"
        point.attributes.add(key="call").value.string_value = str(uuid4())
        point.attributes.add(key="filler").value.string_value = "y" * (SIZE // 5_000 - 150)
    body: bytes = request.SerializeToString()
    return body


def _one_item() -> bytes:
    """A single call with 30 MB of messages, half of them small."""
    messages = [{"role": "user", "content": "z" * 1_000}] * (SIZE // 2_100)
    call = {"litellm_call_id": str(uuid4()), "model": "large", "prompt_tokens": 7}
    return json.dumps(call | {"messages": messages, "response": "y" * (SIZE // 2)}).encode()


JSON, PROTOBUF = "application/json", "application/x-protobuf"
BODIES = {
    "litellm": Large("/api/ingest/litellm", JSON, _litellm),
    "litellm-one-item": Large("/api/ingest/litellm", JSON, _one_item),
    "cloudevents": Large("/api/ingest/cloudevents", JSON, _cloudevents),
    "otlp-protobuf": Large("/v1/traces", PROTOBUF, _otlp_protobuf),
    "otlp-json": Large("/v1/traces", JSON, _otlp_json),
    "otlp-gzip": Large("/v1/traces", PROTOBUF, lambda: gzip.compress(_varied(), 1), "gzip"),
    "otlp-one-metric": Large("/v1/metrics", PROTOBUF, _one_metric),
    "events": Large("/api/token-monitor/events", JSON, _events),
    "update": Large("/api/token-monitor/update", JSON, _snapshots),
}


@contextlib.contextmanager
def as_started() -> Iterator[None]:
    """What is there already is not looked through for garbage, as in a daemon of its own."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def sent(url: str, large: Large, file: Path) -> None:
    """Post a file, from a process of its own."""
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SEND, large.path, large.kind, large.encoding),
        *(url.rpartition(":")[2], str(file)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await sender.communicate()
    assert out.strip() == b"200", out


def count() -> int:
    """What a thread does that holds up nobody longer than Python lets it (5 ms)."""
    return sum(n % 7 for n in range(5_000_000))


async def longest_hold(work: Coroutine[Any, Any, Any]) -> float:
    """The longest time that the loop did not go round during some work, in seconds.

    Of the processor's time for this process, so that other programs of the machine count less;
    and only that share of it in which the loop's thread did not itself wait for a processor:
    meanwhile other threads of the process run on with nobody to ask them to stop.
    """
    done = asyncio.create_task(work)
    longest, last = 0.0, (process_time(), perf_counter(), _waited())
    while not done.done():
        await asyncio.sleep(0.001)
        now = (process_time(), perf_counter(), _waited())
        ran, passed, waited = (new - old for new, old in zip(now, last, strict=True))
        longest, last = max(longest, ran * max(0.0, 1 - waited / passed)), now
    await done
    return longest


def _waited() -> float:
    """How long this thread was ready to run and did not, in seconds (Linux; elsewhere 0).

    The second field of schedstat: Documentation/scheduler/sched-stats.rst.
    """
    try:
        fields = Path("/proc/thread-self/schedstat").read_text().split()
    except FileNotFoundError:
        return 0.0
    return int(fields[1]) / 1e9
