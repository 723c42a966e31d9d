"""Debian's Chromium, headless, by Playwright; nothing outside loopback can be reached by it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, CDPSession, Page, async_playwright

from tests.support.waiting import eventually

PROGRAM = "chromium"
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-features=OptimizationHints,MediaRouter,Translate",
    # A proxy that is not there, and no name but localhost.
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>;127.0.0.1;localhost",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)

# What it says by itself, whatever the page makes of it.
_OF_THE_BROWSER = re.compile("Failed to load resource|Push API in incognito mode")


def arguments() -> list[str]:
    """Chromium's sandbox does not work for root."""
    return [*ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


@contextlib.asynccontextmanager
async def chromium(program: str) -> AsyncIterator[Browser]:
    """A browser, closed at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=arguments())
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def chromium_with_profile(
    program: str, folder: Path, switches: Sequence[str]
) -> AsyncIterator[BrowserContext]:
    """A browser with a profile: without one, it subscribes to nothing."""
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            folder,
            executable_path=program,
            args=[*arguments(), *switches],
            viewport={"width": 1360, "height": 850},
        )
        try:
            yield context
        finally:
            await context.close()


class Complaints:
    """What a page complained of: errors, violations of its policy, requests to elsewhere."""

    def __init__(self, page: Page, origin: str) -> None:
        self.found: list[str] = []
        self._origin = origin
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("console", self._said)
        page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not _OF_THE_BROWSER.search(message.text):
            self.found.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self._origin, "data:", "about:", "blob:")):
            self.found.append(f"request: {request.url}")


class WorkerPush:
    """Hands messages to a page's service worker, in the place of a push service."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        self._registrations: dict[str, str] = {}
        session.on("ServiceWorker.workerRegistrationUpdated", self._updated)

    @classmethod
    async def open(cls, page: Page) -> WorkerPush:
        push = cls(await page.context.new_cdp_session(page))
        await push._session.send("ServiceWorker.enable")
        return push

    async def deliver(self, origin: str, data: str) -> None:
        number = await eventually(lambda: self._registrations.get(origin + "/"), 60)
        await self._session.send(
            "ServiceWorker.deliverPushMessage",
            {"origin": origin, "registrationId": number, "data": data},
        )

    async def stop_workers(self) -> None:
        await self._session.send("ServiceWorker.stopAllWorkers")

    def _updated(self, event: dict[str, Any]) -> None:
        for one in event["registrations"]:
            if not one["isDeleted"]:
                self._registrations[one["scopeURL"]] = one["registrationId"]
