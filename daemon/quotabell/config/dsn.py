"""Postgres connection URLs: which are accepted, and how they are shown without their password.

No message of this module holds any part of the URL: a password with an unescaped ``/`` or
``#`` ends up in the host, the port or the path.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

_URL = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://"
    r"(?:(?P<userinfo>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?"
)
# What Go's net/url accepts too: the migration tool reads the same URL.
_USERINFO = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(?::(?P<port>[0-9]{1,5}))?")
_SHOWN_PARAMETERS = frozenset({"host", "port", "user", "dbname", "sslmode"})

_ENCODE = (
    "the user name and password must be percent-encoded "
    "(write @ as %40, / as %2F, ? as %3F, # as %23, % as %25)"
)


def check_postgres_url(url: str) -> None:
    """Raises ValueError saying what is wrong with ``url``, without showing any of it."""
    if not url.startswith(("postgres://", "postgresql://")):
        raise ValueError("must be a URL that begins with postgres:// or postgresql://")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"holds a space, a line break or a letter outside ASCII; {_ENCODE}")
    match = _URL.fullmatch(url)
    if not match or match["fragment"] or "@" in f"{match['database']}{match['query']}":
        raise ValueError(f"cannot be read; {_ENCODE}")
    if not _USERINFO.fullmatch(match["userinfo"] or ""):
        raise ValueError(f"cannot be read; {_ENCODE}")
    for host in match["hosts"].split(","):
        found = _HOST.fullmatch(host)
        if not found or not 0 < int(found["port"] or 5432) < 65536:
            raise ValueError(f"has no readable host and port; {_ENCODE}")


def without_password(url: str) -> str:
    """The URL with user, hosts, database and harmless parameters only; "" stays ""."""
    match = _URL.fullmatch(url)
    if not match:
        return "<secret>" if url else ""
    user = (match["userinfo"] or "").partition(":")[0]
    shown = [p for p in parse_qsl(match["query"] or "") if p[0] in _SHOWN_PARAMETERS]
    return (
        f"{match['scheme']}://{user}{'@' if user else ''}{match['hosts']}"
        f"/{match['database'] or ''}{'?' if shown else ''}{urlencode(shown, safe='/')}"
    )
