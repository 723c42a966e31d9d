"""What keeps web pages out of a daemon that knows nobody."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Address, ip_address

from aiohttp import hdrs, web

from quotabell.http.caller import Forbidden

OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_FETCHES = frozenset({"same-origin", "none"})
_VISIT = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def refuse_foreign_pages(
    request: web.Request, allowed: Collection[str] = (), *, visited: bool = False
) -> None:
    """Forbidden unless the request came to this machine itself and no foreign page caused it.

    The Host check defeats DNS rebinding, Origin and Sec-Fetch-Site (W3C Fetch Metadata)
    what a page may send blindly. Pages of the ``allowed`` origins are not foreign. ``visited``:
    what is asked for opens in a tab of its own, so a link of any page may lead to it; that page
    learns nothing of it, and in a frame it does not open.
    """
    if not _reached_loopback(request):
        raise Forbidden("without auth.tokens this daemon answers only on the loopback interface")
    host = request.headers.get(hdrs.HOST, "")
    if _hostname(host) not in OWN_HOSTS:
        raise Forbidden(
            "without auth.tokens this daemon answers only to localhost, 127.0.0.1 and [::1]"
        )
    origin = request.headers.get(hdrs.ORIGIN)
    if origin in allowed:
        return
    if origin is not None and origin.lower() != f"{request.scheme}://{host.lower()}":
        raise Forbidden("requests from other web pages are refused")
    if visited and all(request.headers.get(name) == value for name, value in _VISIT.items()):
        return
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_FETCHES:
        raise Forbidden("requests from other web pages are refused")


def _hostname(host: str) -> str:
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and _is_port(rest) else ""
    name, colon, rest = host.partition(":")
    return name.lower() if _is_port(colon + rest) else ""


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and (text[1:].isdecimal() or text == ":"))


def _reached_loopback(request: web.Request) -> bool:
    """Whether the connection was made to a loopback address, so from this machine.

    The socket may listen elsewhere if the tokens were removed by a reload.
    """
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    if not isinstance(name, tuple):
        return False
    if name[0] == "127.0.0.1":
        return True
    address = ip_address(name[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
