"""A program that uses LiteLLM, made to be killed: what may not have arrived is sent again.

LiteLLM forgets what it has not sent when it is killed, and never learns what was acknowledged. So
each payload is written to a file as it is logged, and a restarted program sends all of them again.
"""

# mypy: ignore-errors

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx
import litellm
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.litellm_core_utils.safe_json_dumps import safe_dumps

journal = Path(sys.argv[1]) / "journal"
acknowledged = Path(sys.argv[1]) / "acknowledged"


class Journal(GenericAPILogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        payload = kwargs["standard_logging_object"]
        with journal.open("a") as file:
            file.write(safe_dumps(payload) + "\n")
        await super().async_log_success_event(kwargs, response_obj, start_time, end_time)


def send_again():
    if not journal.exists():
        return
    whole = [line for line in journal.read_text().splitlines() if line.endswith("}")]
    name, _, value = os.environ["GENERIC_LOGGER_HEADERS"].partition("=")
    headers = {"Content-Type": "application/json", name: value}
    url = os.environ["GENERIC_LOGGER_ENDPOINT"]
    httpx.post(url, content="\n".join(whole), headers=headers, timeout=30).raise_for_status()
    acknowledged.write_text("".join(json.loads(line)["id"] + "\n" for line in whole))


async def main():
    litellm.callbacks = [Journal()]
    loop = asyncio.get_running_loop()
    stop = loop.run_in_executor(None, sys.stdin.readline)
    while not stop.done():
        await litellm.acompletion(
            model="openai/gpt-5",
            messages=[{"role": "user", "content": "hi"}],
            api_base=os.environ["OPENAI_BASE_URL"],
            api_key="none",
        )
    await GLOBAL_LOGGING_WORKER.flush()
    send_again()


send_again()
asyncio.run(main())
print("sent")
