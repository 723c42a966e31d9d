"""A program that uses LiteLLM with its OpenTelemetry callback, set up by the environment.

Runs on the interpreter that has the clients: see tests/clients/test_clients.py.
"""

# mypy: ignore-errors

import asyncio
import os
import sys

import litellm
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from opentelemetry import trace


async def main(calls):
    litellm.callbacks = ["otel"]
    for _ in range(calls):
        await litellm.acompletion(
            model="openai/gpt-5",
            messages=[{"role": "user", "content": "hi"}],
            api_base=os.environ["OPENAI_BASE_URL"],
            api_key="none",
            user="alice",
        )
    await GLOBAL_LOGGING_WORKER.flush()
    trace.get_tracer_provider().force_flush()


asyncio.run(main(int(sys.argv[1])))
print("sent")
