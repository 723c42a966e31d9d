"""A program that uses OpenAI's library, instrumented, set up as the README says.

Makes calls until a line comes on its standard input, then sends what it still has and ends. Runs
on the interpreter that has the clients: see tests/clients/test_clients.py.
"""

# mypy: ignore-errors

import sys
import threading

import openai
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

signals = sys.argv[1].split(",")
tracing, measuring = TracerProvider(), MeterProvider()
if "traces" in signals:
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=300))
if "metrics" in signals:
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=500)
    measuring = MeterProvider([reader])
trace.set_tracer_provider(tracing)
metrics.set_meter_provider(measuring)
OpenAIInstrumentor().instrument()

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
client = openai.OpenAI(api_key="none")
while not stop.wait(0.05):
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
tracing.shutdown()
measuring.shutdown()
print("sent")
