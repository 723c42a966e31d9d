"""Debian's Firefox, headless, spoken to by WebDriver BiDi over its own WebSocket.

No driver program: ``--remote-debugging-port`` is the protocol's own end. Web Push is real, with
the push service of `autopush` in the place of Mozilla's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.support.firefox_settings import QUIET, push_settings
from tests.support.waiting import eventually

PROGRAM = "firefox-esr"
START = 60.0  # seconds; a busy machine takes ten


class ScriptError(AssertionError):
    """A script in the page threw."""


class Firefox:
    """A browser with a profile of its own and one tab."""

    def __init__(self, push_socket: str, program: str = PROGRAM) -> None:
        self._program = program
        self._settings = QUIET | push_settings(push_socket)
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._stack = contextlib.AsyncExitStack()
        self.tab = ""

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._profile = Path(tempfile.mkdtemp(prefix="qb-firefox-"))
            stack.callback(shutil.rmtree, self._profile, ignore_errors=True)
            self._process = await self._start()
            stack.push_async_callback(self._end)
            address = await eventually(self._address, START, every=0.05)
            session = await stack.enter_async_context(aiohttp.ClientSession())
            self._socket = await session.ws_connect(address, max_msg_size=0)
            reader = asyncio.create_task(self._read())
            stack.callback(reader.cancel)
            stack.push_async_callback(self._close)
            await self.command("session.new", capabilities={})
            self.tab = (await self.command("browsingContext.getTree"))["contexts"][0]["context"]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # --- what a person does and sees ---

    async def visit(self, url: str) -> None:
        await self.command("browsingContext.navigate", context=self.tab, url=url, wait="complete")

    async def press(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        found = await self.command(
            "script.evaluate",
            target={"context": self.tab},
            awaitPromise=False,
            expression=f"document.querySelector({json.dumps(selector)})",
        )
        origin = {"type": "element", "element": {"sharedId": found["result"]["sharedId"]}}
        actions = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        await self.command("input.performActions", context=self.tab, actions=[mouse])

    async def permit(self, origin: str, state: str = "granted") -> None:
        """Answer the question whether a site may notify: granted, denied or prompt."""
        name = {"name": "notifications"}
        await self.command("permissions.setPermission", descriptor=name, state=state, origin=origin)

    async def windows(self) -> list[dict[str, str]]:
        """The notifications on the screen: context, title and text."""
        tree = await self.command("browsingContext.getTree", **{"moz:scope": "chrome"})
        found = []
        for window in tree["contexts"]:
            if window["url"].endswith("/alerts/alert.xhtml"):
                words = await self.run(_ALERT_WORDS, window["context"])
                found.append({"context": window["context"]} | words)
        return found

    async def click(self, window: dict[str, str]) -> None:
        """Click on a notification."""
        script = "setTimeout(() => document.getElementById('alertBox').click(), 0); return 1"
        await self.run(script, window["context"])

    async def run(self, script: str, context: str = "") -> Any:
        """What the body of an async function returns in the page, or in another context."""
        body = f"async () => JSON.stringify(await (async () => {{ {script} }})())"
        result = await self.command(
            "script.callFunction",
            awaitPromise=True,
            userActivation=True,
            target={"context": context or self.tab},
            functionDeclaration=body,
        )
        if result["type"] != "success":
            raise ScriptError(result["exceptionDetails"]["text"])
        value = result["result"].get("value")
        return None if value is None else json.loads(value)

    async def screenshot(self, path: Path) -> None:
        shot = await self.command("browsingContext.captureScreenshot", context=self.tab)
        path.write_bytes(base64.b64decode(shot["data"]))

    # --- the protocol ---

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(START):
            message = await reply
        if message["type"] != "success":
            raise ScriptError(f"{method}: {message['error']}: {message['message']}")
        result = message["result"]
        assert isinstance(result, dict)
        return result

    async def _read(self) -> None:
        async for raw in self._socket:
            message = json.loads(raw.data)
            reply = self._replies.pop(message.get("id"), None)
            if reply is not None and not reply.done():
                reply.set_result(message)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionError("Firefox closed the connection"))

    # --- the process ---

    async def _start(self) -> asyncio.subprocess.Process:
        lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in self._settings.items())
        (self._profile / "user.js").write_text("\n".join(lines))
        home = str(self._profile)
        environment = {
            "HOME": home,
            "XDG_CACHE_HOME": home,
            "XDG_CONFIG_HOME": home,
            "MOZ_CRASHREPORTER_DISABLE": "1",
            "MOZ_DISABLE_AUTO_SAFE_MODE": "1",
            "MOZ_DISABLE_NONLOCAL_CONNECTIONS": "1",  # it ends itself if it tries one
            "NO_AT_BRIDGE": "1",
        }
        hidden = {"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"}
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        with (self._profile / "firefox.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(self._program, "--headless", "--no-remote", "--profile", home),
                *("--remote-debugging-port", "0"),
                "--remote-allow-system-access",  # to see and click the window of a notification
                env=kept | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _address(self) -> str | None:
        if self._process.returncode is not None:
            log = (self._profile / "firefox.log").read_text(errors="replace")
            raise RuntimeError(f"Firefox ended: {log[-2000:]}")
        try:
            found = json.loads((self._profile / "WebDriverBiDiServer.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return f"ws://{found['ws_host']}:{found['ws_port']}/session"

    async def _close(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(10):
                await self.command("browser.close")
        with contextlib.suppress(Exception):
            await self._socket.close()

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(15):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


_ALERT_WORDS = """
    const words = (id) => {
        const element = document.getElementById(id);
        return (element && (element.getAttribute("value") || element.textContent)) || "";
    };
    return {title: words("alertTitleLabel"), text: words("alertTextLabel")};
"""
