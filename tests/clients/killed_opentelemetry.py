"""As with_opentelemetry.py, and made to be killed: what may not have arrived is sent again.

The SDK forgets what it has not sent when it is killed. So, as a collector with a queue on disk
does, each request is written to a folder before it is sent and deleted once it was acknowledged.
"""

# mypy: ignore-errors

import os
import sys
import threading
from pathlib import Path
from uuid import uuid4

import openai
import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

folder = Path(sys.argv[1])


class Journal(SpanExporter):
    def __init__(self):
        self.exporter = OTLPSpanExporter()

    def export(self, spans):
        kept = folder / f"{uuid4()}.request"
        kept.write_bytes(encode_spans(spans).SerializeToString())
        result = self.exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            kept.unlink()
            with (folder / "acknowledged").open("a") as file:
                for span in spans:
                    file.write(span.attributes["gen_ai.response.id"] + "\n")
        return result

    def shutdown(self):
        self.exporter.shutdown()


name, _, value = os.environ["OTEL_EXPORTER_OTLP_HEADERS"].partition("=")
for kept in folder.glob("*.request"):
    url = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/traces"
    headers = {"Content-Type": "application/x-protobuf", name: value}
    requests.post(url, data=kept.read_bytes(), headers=headers, timeout=30).raise_for_status()
    kept.unlink()

tracing = TracerProvider()
tracing.add_span_processor(BatchSpanProcessor(Journal(), schedule_delay_millis=100))
trace.set_tracer_provider(tracing)
OpenAIInstrumentor().instrument()

stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
client = openai.OpenAI(api_key="none")
while not stop.wait(0.02):
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
tracing.shutdown()
print("sent")
