"""A dead man's switch of the operator's: asked for, again and again, for as long as all is well."""

from __future__ import annotations

import asyncio

import aiohttp

from quotabell.channels.guarded import TOTAL, fault_of, read_answer
from quotabell.channels.own import OwnReceivers
from quotabell.domain.outcome import Fault, Outcome, classify_own, unreachable


class Pinger(OwnReceivers):
    """GETs a URL. Private addresses are allowed, redirects are not followed."""

    async def ping(self, url: str) -> Outcome:
        """Try once, within 10 seconds; whatever is wrong with the receiver is an Outcome."""
        try:
            async with (
                asyncio.timeout(TOTAL),
                self._session.get(url, allow_redirects=False) as response,
            ):
                await read_answer(response)
                return classify_own(response.status, response.headers, self.now)
        except TimeoutError:
            return unreachable(Fault.TIMEOUT)
        except (aiohttp.ClientError, OSError) as error:
            return unreachable(fault_of(error))
        except ValueError:  # a URL that the client cannot read
            return Outcome("failed", reason="bad_url")
