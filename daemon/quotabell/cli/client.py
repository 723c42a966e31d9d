"""A running daemon, as commands reach it over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from quotabell.cli.command import Run, add_config
from quotabell.cli.exits import (
    EX_CONFIG,
    EX_DATAERR,
    EX_NOINPUT,
    EX_NOPERM,
    EX_UNAVAILABLE,
    FAILED,
    CommandFailed,
)
from quotabell.cli.terminal import printable
from quotabell.config import Address, load

API = "/api/token-monitor"
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
_TOKEN = re.compile(r"[\x21-\x7e]+")
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SHOWN = 10  # faults of an answer
_PARTS = 200  # of a list
_ADVICE = "name a file with a token by --token-file or QUOTABELL_TOKEN_FILE"

Params = Mapping[str, str]


class Away(CommandFailed):
    """The daemon cannot be reached, or not now; ``retry_after`` in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message, EX_UNAVAILABLE)
        self.retry_after = retry_after


class Refusal(CommandFailed):
    """The daemon refuses what was sent. ``faults``: of (index, field, message)."""

    def __init__(
        self, message: str, code: int, faults: list[tuple[int | None, str, str]] | None = None
    ) -> None:
        super().__init__(message, code)
        self.faults = faults or []


def web_address(text: str) -> str:
    """``text`` as the address of a daemon; ValueError says what is wrong."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"must hold no credentials, which others can read there; {_ADVICE}")
    if parts.query or parts.fragment:
        raise ValueError("must end before any ? or #")
    return text.rstrip("/")


def _url_option(text: str) -> str:
    try:
        return web_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_connection(command: argparse.ArgumentParser) -> None:
    """The options by which a command finds the daemon and says who asks."""
    add_config(command)
    command.add_argument(
        "--url",
        type=_url_option,
        metavar="URL",
        help="the daemon (default: $QUOTABELL_URL, else `listen` of the configuration)",
    )
    command.add_argument(
        "--cacert",
        type=Path,
        metavar="FILE",
        help="trust the authorities in it, not the system's (default: $QUOTABELL_CACERT)",
    )
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the token (default: $QUOTABELL_TOKEN_FILE, else $QUOTABELL_TOKEN, else none)",
    )


def connected(run: Callable[[Daemon, argparse.Namespace], Awaitable[int]]) -> Run:
    """The command that talks to the daemon its options name."""

    async def reach(arguments: argparse.Namespace) -> int:
        async with reached(arguments) as daemon:
            return await run(daemon, arguments)

    return lambda arguments: asyncio.run(reach(arguments))


@contextlib.asynccontextmanager
async def reached(arguments: argparse.Namespace) -> AsyncIterator[Daemon]:
    """The daemon that the options or the environment name; nothing is sent yet."""
    url, token = address_of(arguments), token_of(arguments)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(ssl=trust_of(arguments))
    async with aiohttp.ClientSession(
        connector=connector, timeout=_TIMEOUT, headers=headers
    ) as session:
        yield Daemon(url, session)


def address_of(arguments: argparse.Namespace) -> str:
    """Where the daemon is. Raises ConfigError, CommandFailed."""
    if arguments.url:
        return str(arguments.url)
    if url := os.environ.get("QUOTABELL_URL"):
        try:
            return web_address(url)
        except ValueError as error:
            raise CommandFailed(f"QUOTABELL_URL {error}", EX_CONFIG) from None
    config = load(arguments.config, os.environ)
    listen, scheme = config.listen, "http" if config.tls is None else "https"
    if listen.port == 0:
        raise CommandFailed("listen leaves the port to the system: name it by --url", EX_CONFIG)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    return f"{scheme}://{Address(host, listen.port)}"


def trust_of(arguments: argparse.Namespace) -> ssl.SSLContext:
    """Whose certificates are taken. Raises ConfigError, CommandFailed."""
    path, name = arguments.cacert, "--cacert"
    if path is None and (named := os.environ.get("QUOTABELL_CACERT")):
        path, name = Path(named), "QUOTABELL_CACERT"
    if path is not None:
        try:
            return ssl.create_default_context(cafile=path)
        except OSError as error:  # of TLS too
            reason = "holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise CommandFailed(f"{name}: {path}: {reason}", EX_NOINPUT) from None
    if arguments.url or os.environ.get("QUOTABELL_URL"):
        return ssl.create_default_context()
    tls = load(arguments.config, os.environ).tls
    return ssl.create_default_context() if tls is None else tls.read().own()


def token_of(arguments: argparse.Namespace) -> str | None:
    """The token; None: none. Raises CommandFailed."""
    path, name = arguments.token_file, "--token-file"
    if path is None and (named := os.environ.get("QUOTABELL_TOKEN_FILE")):
        path, name = Path(named), "QUOTABELL_TOKEN_FILE"
    if path is not None:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise CommandFailed(f"{name}: {path}: {reason}", EX_NOINPUT) from None
        if not token:
            raise CommandFailed(f"{name}: {path} is empty", EX_NOINPUT)
    else:
        name, token = "QUOTABELL_TOKEN", os.environ.get("QUOTABELL_TOKEN", "").strip()
    if token and not _TOKEN.fullmatch(token):
        raise CommandFailed(f"{name}: holds more than one token, or what is none", EX_CONFIG)
    return token or None


class Daemon:
    """The daemon at ``url``. Every method raises Away, Refusal or CommandFailed."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def get(self, path: str, params: Params | None = None) -> Any:
        return await self.ask("GET", path, params=params)

    async def listed(self, path: str, params: Params | None = None) -> list[Any]:
        """All parts of a list."""
        items: list[Any] = []
        asked = dict(params or {})
        for _ in range(_PARTS):
            part = await self.get(path, asked)
            items += part["items"]
            if not part["nextCursor"]:
                break
            asked["cursor"] = part["nextCursor"]
        return items

    async def identify(self, path: str, start: str) -> str:
        """The one id of a list that begins so."""
        if re.fullmatch(_UUID, start.lower()):
            return start.lower()
        if not re.fullmatch("[0-9a-f-]{4,36}", start.lower()):
            raise CommandFailed("an id begins with four hexadecimal digits at least", EX_DATAERR)
        ids = [str(item["id"]) for item in await self.listed(path)]
        found = [key for key in ids if key.startswith(start.lower())]
        if len(found) != 1:
            raise CommandFailed(f"{len(found) or 'no'} ids there begin with {start}", FAILED)
        return found[0]

    async def post(self, path: str, value: Any, params: Params | None = None) -> Any:
        raw = json.dumps(value, separators=(",", ":")).encode()
        return await self.ask("POST", path, raw, "application/json", params=params)

    async def ask(
        self,
        method: str,
        path: str,
        raw: bytes | None = None,
        content_type: str | None = None,
        *,
        params: Params | None = None,
    ) -> Any:
        """The answer's JSON; None if it has none."""
        headers = {"Content-Type": content_type} if content_type else {}
        try:
            # A redirect could carry the token to somebody else.
            async with self._session.request(
                method,
                self.url + path,
                data=raw,
                params=params,
                headers=headers,
                allow_redirects=False,
            ) as reply:
                text = await reply.text(errors="replace")
                if reply.status == 204:
                    return None
                value = _json(text)
                if 200 <= reply.status < 300 and value is not None:
                    return value
                raise self._failure(reply, value)
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "it cannot be checked")
            raise Away(
                f"{self.url}: its certificate is not trusted ({reason}): name a file with its "
                "authority by --cacert or QUOTABELL_CACERT"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise Away(
                f"no daemon answers at {self.url} ({_reason(error)}): start it with "
                "`quotabell serve`, or name it by --url or QUOTABELL_URL"
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Away(f"{self.url}: {str(error) or 'no answer in time'}") from None

    def _failure(self, reply: aiohttp.ClientResponse, value: Any) -> CommandFailed:
        status, kind = reply.status, reply.content_type
        if kind != "application/problem+json" or not isinstance(value, dict):
            return Away(f"what answers at {self.url} is no Quotabell (HTTP {status})")
        detail = printable(value.get("detail", value.get("title", "")))
        if status == 401:
            return CommandFailed(f"{detail} Here: {_ADVICE}.", EX_NOPERM)
        if status == 403:
            return CommandFailed(detail, EX_NOPERM)
        if status in (429, 503):
            return Away(detail, _seconds(reply.headers.get("Retry-After")))
        faults = [
            (e.get("index"), str(e.get("field", "")), str(e.get("message", "")))
            for e in value.get("errors", [])
        ]
        told = [printable(_fault(fault)) for fault in faults[:_SHOWN]]
        lines = [detail, *(f"  {line}" for line in told if line != detail)]
        if len(faults) > _SHOWN:
            lines.append(f"  and {len(faults) - _SHOWN} more")
        code = EX_DATAERR if status in (400, 413, 415, 422) else FAILED
        return Refusal("\n".join(lines), code, faults)


def _fault(fault: tuple[int | None, str, str]) -> str:
    index, field, message = fault
    place = "" if index is None else f"item {index + 1}: "
    return place + (f"{field}: {message}" if field else message)


def _reason(error: aiohttp.ClientConnectorError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.os_error)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _seconds(text: str | None) -> float:
    return float(text) if text and re.fullmatch("[0-9]{1,4}", text) else 1.0
