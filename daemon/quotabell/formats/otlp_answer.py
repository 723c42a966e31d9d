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
