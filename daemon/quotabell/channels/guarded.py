"""HTTP connections that cannot be turned against the daemon's own network.

The socket factory is the last thing before a connection: aiohttp calls it with the very
address that it then connects to, for names from any resolver or cache and for address
literals, which bypass the resolver. So what is checked is what is connected to, and a name that
changes its address between two look-ups (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from quotabell.domain.endpoints import is_public
from quotabell.domain.outcome import Fault

TOTAL: Final = 10.0  # seconds for one try, all of its requests
_PHASES: Final = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=5)
MAX_ANSWER: Final = 64 * 1024  # bytes of an answer that are ever read
PER_HOST: Final = 100  # connections; Apple refuses more unanswered requests
_LIMIT: Final = 512  # connections in all: several stuck hosts leave room for the others
_LOOKUPS: Final = 8  # name look-ups at once
_BODY_PATIENCE: Final = 2.0  # seconds for a body, once the status is known


class AddressRefused(OSError):
    """The address is not public."""

    def __init__(self) -> None:
        # One text for all addresses: aiohttp keeps the type only if all tries failed alike.
        super().__init__(errno.EACCES, "the address is not public")


def public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket for a public address; AddressRefused for any other."""
    family, kind, protocol, _, where = address
    if family not in (socket.AF_INET, socket.AF_INET6) or not is_public(str(where[0])):
        raise AddressRefused
    return socket.socket(family, kind, protocol)


class Resolver(AbstractResolver):
    """``getaddrinfo`` in threads of its own, so that dead name servers stall nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError if the name leads nowhere."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port, family)
        if not found:
            raise OSError(errno.ENOENT, "the name has no address")
        return found

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host, host=str(at[0]), port=port, family=kind, proto=protocol, flags=flags
        )
        for kind, _, protocol, _, at in found
        if kind in (socket.AF_INET, socket.AF_INET6)
    ]


def open_session(
    resolver: AbstractResolver,
    *,
    public_only: bool = True,
    tls: ssl.SSLContext | None = None,
    per_host: int = PER_HOST,
) -> aiohttp.ClientSession:
    """A session that adds nothing of its own: no cookies, proxies, netrc or decompression.

    ``public_only=False`` is for targets that the operator named. ``resolver`` stays the
    caller's to close, ``allow_redirects=False`` must come with every request, and the caller
    bounds the whole by ``asyncio.timeout(TOTAL)``: the session bounds only connecting (with
    waiting for a free connection) and silence, at 5 seconds each.
    """
    connector = aiohttp.TCPConnector(
        resolver=resolver,
        socket_factory=public_socket if public_only else None,
        limit=_LIMIT,
        limit_per_host=per_host,
        ttl_dns_cache=30,
        ssl=tls if tls is not None else True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=_PHASES,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding",),
        headers={"User-Agent": "quotabell"},
    )


class Answer(Protocol):
    """What of a response is needed to read its body."""

    @property
    def content(self) -> aiohttp.StreamReader: ...

    def close(self) -> None: ...


async def read_answer(response: Answer, limit: int = MAX_ANSWER) -> bytes:
    """The beginning of the body, or what of it came in time.

    Never raises for a broken or endless body: the status has been said already, and a message
    that was accepted must not be sent again for it. A connection with more to come is closed.
    """
    if response.content.is_eof():  # it came with the head: nothing to wait for
        return response.content.read_nowait(limit)
    parts: list[bytes] = []
    rest = limit
    try:
        async with asyncio.timeout(_BODY_PATIENCE):
            while rest > 0 and (part := await response.content.read(rest)):
                parts.append(part)
                rest -= len(part)
    except (TimeoutError, OSError, aiohttp.ClientError):
        response.close()
    if not response.content.at_eof():
        response.close()
    return b"".join(parts)


def fault_of(error: Exception) -> Fault:
    """Which fault an exception of a request is."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Fault.DNS
        case aiohttp.ClientSSLError():
            return Fault.TLS
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, AddressRefused):
            return Fault.ADDRESS_REFUSED
        case aiohttp.ClientConnectorError():
            return Fault.CONNECT
        case aiohttp.ConnectionTimeoutError():
            return Fault.CONNECT_TIMEOUT
        case TimeoutError():
            return Fault.TIMEOUT
        case aiohttp.ClientResponseError():
            return Fault.BAD_ANSWER
        case aiohttp.ServerDisconnectedError() | OSError():
            return Fault.RESET
        case _:
            return Fault.BAD_ANSWER
