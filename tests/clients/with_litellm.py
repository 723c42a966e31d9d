"""A program that uses LiteLLM, set up as the README says. Prints what its answers said.

Runs on the interpreter that has the clients: see tests/clients/test_clients.py.
"""

# mypy: ignore-errors

import asyncio
import json
import sys

import litellm
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER


async def main(calls: int) -> None:
    litellm.callbacks = [GenericAPILogger()]
    told = [0, 0]
    for _ in range(2):
        answers = await asyncio.gather(
            *(
                litellm.acompletion(
                    model="openai/gpt-4o",
                    messages=[{"role": "user", "content": "hello " * n}],
                    mock_response="a b c " * n,
                    user=f"user-{n % 3}",
                )
                for n in range(1, calls + 1)
            )
        )
        for answer in answers:
            told[0] += answer.usage.prompt_tokens
            told[1] += answer.usage.completion_tokens
        await GLOBAL_LOGGING_WORKER.flush()
        await asyncio.sleep(3)  # LiteLLM sends every second, and loses what comes meanwhile
    print(json.dumps(told))


asyncio.run(main(int(sys.argv[1])))
