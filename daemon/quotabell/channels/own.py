"""HTTP receivers of the operator's own: configured, so exempt from the rules for strangers' URLs.

What stays: no redirects, nothing read without a bound, an end after 10 seconds.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver

from quotabell.channels.guarded import TOTAL, Resolver, fault_of, open_session, read_answer
from quotabell.domain.outcome import Fault, Outcome, classify_own, unreachable


class OwnReceivers:
    """POSTs to them. Open between ``__aenter__`` and ``__aexit__``."""

    def __init__(
        self,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``resolver`` and ``tls`` default to the system's; a given resolver is not closed."""
        self._resolver = resolver
        self._tls = tls
        self._wall = wall
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            resolver = self._resolver
            if resolver is None:
                resolver = Resolver()
                stack.push_async_callback(resolver.close)
            self._session = await stack.enter_async_context(
                open_session(resolver, public_only=False, tls=self._tls)
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        await self._stack.aclose()

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._wall()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """One try; whatever is wrong with the receiver is an Outcome."""
        try:
            async with (
                asyncio.timeout(TOTAL),
                self._session.post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                await read_answer(response)
                return classify_own(response.status, response.headers, self._wall())
        except TimeoutError:
            return unreachable(Fault.TIMEOUT)
        except (aiohttp.ClientError, OSError) as error:
            return unreachable(fault_of(error))
        except ValueError:  # a URL that the client cannot read
            return Outcome("failed", reason="bad_url")
