"""Exports a span to each of the given addresses at once, and prints what the exporter says.

Runs on the interpreter that has the clients: see tests/clients/test_clients.py.
"""

# mypy: ignore-errors

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

span = TracerProvider().get_tracer("own").start_span("chat")
span.end()


def export(url):
    return OTLPSpanExporter(endpoint=url, timeout=60).export([span]) is SpanExportResult.SUCCESS


with ThreadPoolExecutor(len(sys.argv)) as pool:
    print(json.dumps(list(pool.map(export, sys.argv[1:]))))
