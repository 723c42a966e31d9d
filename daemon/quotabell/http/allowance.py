"""How often a caller may ask for what costs others."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic

from aiohttp import web

from quotabell.http.buckets import KEYS, Buckets, TooMany
from quotabell.http.caller import Caller

__all__ = ["Allowance", "Crowd", "TooMany", "network"]

PER_ADDRESS = 10  # callers' allowances that one address has: a proxy is one


class Allowance:
    """So many requests a minute for each caller: a user's tokens share one bucket, a token
    without a user has its own."""

    def __init__(
        self, a_minute: int, *, keys: int = KEYS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._buckets = Buckets(a_minute, keys=keys, clock=clock)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: Caller) -> None:
        """Count a request of a caller; raises TooMany, which costs nothing."""
        self._buckets.take(("token", caller.name) if caller.user is None else ("user", caller.user))


class Crowd:
    """So many a minute for each caller, and ten times that for all of one address.

    Whoever may do everything is not bounded.
    """

    def __init__(self, a_minute: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._callers = Allowance(a_minute, clock=clock)
        self._addresses = Buckets(a_minute * PER_ADDRESS, clock=clock)

    def take(self, caller: Caller, address: str) -> None:
        """Count a request; raises TooMany."""
        if caller.may("admin"):
            return
        self._callers.take(caller)
        self._addresses.take(address)


def network(request: web.Request) -> str:
    """What a peer is known by: its address; by IPv6 the /64, all of which one machine may use.

    What headers say of another address is not believed: anybody can write them.
    """
    name = request.transport.get_extra_info("peername") if request.transport else None
    if not isinstance(name, tuple):
        return ""
    address = ip_address(name[0].partition("%")[0])
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))
