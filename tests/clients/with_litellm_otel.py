"""A program that uses LiteLLM with its OpenTelemetry callback, set up by the environment.

Runs on the interpreter that has the clients: see tests/clients/test_clients.py.
"""

# mypy: ignore-errors

import asyncio
import os
import sys

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from opentelemetry import trace


class Last(CustomLogger):
    """Told of each call after "otel" was: LiteLLM may log a call after it has returned."""

    def __init__(self, calls):
        super().__init__()
        self._left = calls
        self.told = asyncio.Event()

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self._left -= 1
        if not self._left:
            self.told.set()


async def main(calls):
    last = Last(calls)
    litellm.callbacks = ["otel", last]
    for _ in range(calls):
        await litellm.acompletion(
            model="openai/gpt-5",
            messages=[{"role": "user", "content": "hi"}],
            api_base=os.environ["OPENAI_BASE_URL"],
            api_key="none",
            user="alice",
        )
    await asyncio.wait_for(last.told.wait(), 30)
    await GLOBAL_LOGGING_WORKER.flush()
    trace.get_tracer_provider().force_flush()


asyncio.run(main(int(sys.argv[1])))
print("sent")
