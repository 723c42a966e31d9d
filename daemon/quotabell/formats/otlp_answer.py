"""Answers to OTLP exporters, in the encoding of their request."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from quotabell.formats.names import Signal

_REJECTED: dict[Signal, tuple[str, str]] = {
    "traces": ("rejected_spans", "rejectedSpans"),
    "logs": ("rejected_log_records", "rejectedLogRecords"),
    "metrics": ("rejected_data_points", "rejectedDataPoints"),
}


_CODES = {  # google.rpc.Code, google/rpc/code.proto
    **{400: 3, 413: 3, 415: 3, 422: 3},  # INVALID_ARGUMENT
    **{401: 16, 403: 7, 404: 5, 405: 12, 429: 8, 503: 14},
}
_INTERNAL = 13


def status(http_status: int, message: str, as_json: bool) -> bytes:
    """A google.rpc.Status; exporters go by the status of HTTP and may log this.

    Its two fields are written by hand: the package that has them brings all of Google's.
    """
    code = _CODES.get(http_status, _INTERNAL)
    if as_json:
        return json.dumps({"code": code, "message": message}).encode()
    text = message.encode("utf-8", "replace")
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def encode(signal: Signal, rejected: int, message: str, *, as_json: bool) -> bytes:
    """What was taken in full (no message), or but for ``rejected`` items, or with a warning."""
    in_proto, in_json = _REJECTED[signal]
    if as_json:
        if not message:
            return b"{}"
        partial = {in_json: str(rejected), "errorMessage": message}
        return json.dumps({"partialSuccess": partial}).encode()
    answer: Any = {
        "traces": ExportTraceServiceResponse,
        "logs": ExportLogsServiceResponse,
        "metrics": ExportMetricsServiceResponse,
    }[signal]()
    if message:
        setattr(answer.partial_success, in_proto, rejected)
        answer.partial_success.error_message = message
    encoded: bytes = answer.SerializeToString()
    return encoded
