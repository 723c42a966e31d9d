"""The load, from a process of its own: wrk where it is installed, else `bench.loader`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SCRIPT = """
local function read(name)
    local file = assert(io.open(name, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end
local requests, number = {}, 0
function init(args)
    for _, name in ipairs({NAMES}) do
        requests[#requests + 1] = wrk.format("POST", nil, {HEADERS}, read(name))
    end
end
function request()
    number = number % #requests + 1
    return requests[number]
end
"""


class Load:
    """POSTs of JSON bodies in turn; answers other than 200 are an error."""

    def __init__(self, folder: Path, bodies: Sequence[bytes], headers: Mapping[str, str]) -> None:
        """``folder``: made for the bodies."""
        folder.mkdir()
        self._headers = {"Content-Type": "application/json", **headers}
        self._files = [folder / f"{number}.json" for number in range(len(bodies))]
        for path, body in zip(self._files, bodies, strict=True):
            path.write_bytes(body)
        self._script = folder / "script.lua"
        self._script.write_text(self._lua())

    async def rate(self, url: str, connections: int, seconds: float) -> float:
        """Answers a second over ``connections`` kept alive, one request at a time on each."""
        wrk = shutil.which("wrk")
        if wrk is None:
            return await self._rate_of_loader(url, connections, seconds)
        said = await _said(
            *(wrk, "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{max(1, round(seconds))}s", "--script", str(self._script), url),
        )
        if found := re.search(r"Non-2xx.*|Socket errors.*", said):
            raise AssertionError(f"{url}: {found[0]}")
        rate = re.search(r"Requests/sec: +([\d.]+)", said)
        assert rate is not None, said
        return float(rate[1])

    async def _rate_of_loader(self, url: str, connections: int, seconds: float) -> float:
        order = {
            "url": url,
            "connections": connections,
            "seconds": seconds,
            "headers": self._headers,
            "bodies": [str(path) for path in self._files],
        }
        return float(await _said(sys.executable, "-m", "bench.loader", json.dumps(order)))

    def _lua(self) -> str:
        headers = ", ".join(
            f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in self._headers.items()
        )
        names = ", ".join(json.dumps(str(path)) for path in self._files)
        return _SCRIPT.replace("HEADERS", headers).replace("NAMES", names)


async def _said(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command[0]} failed"
    return out.decode()
