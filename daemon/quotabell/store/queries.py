"""Named queries from the ``.sql`` file that stands beside a store module.

A file holds queries, each under a header line ``-- name: purpose``. Keeping them out of
Python lets a test PREPARE every one of them against the real schema.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_HEADER = re.compile(r"^-- (?P<name>[a-z][a-z0-9_]*): (?P<purpose>.+)$", re.MULTILINE)

_CODE = re.compile(r"^(?!\s*--)\s*\S", re.MULTILINE)


@cache
def load(module: str) -> MappingProxyType[str, str]:
    """The queries of ``store/<module>.sql`` by name.

    Raises ValueError for a name used twice or a file without queries.
    """
    text = (files("quotabell.store") / f"{module}.sql").read_text(encoding="utf-8")
    headers = list(_HEADER.finditer(text))
    ends = [h.start() for h in headers[1:]] + [len(text)]
    queries: dict[str, str] = {}
    for header, end in zip(headers, ends, strict=True):
        name = header["name"]
        if name in queries:
            raise ValueError(f"{module}.sql: the query {name} stands there twice")
        queries[name] = text[header.end() : end].strip().rstrip(";")
        if not _CODE.search(queries[name]):
            # A line of a comment that looks like a header would otherwise cut its query in two.
            raise ValueError(f"{module}.sql: the query {name} is empty")
    if not queries:
        raise ValueError(f"{module}.sql holds no query")
    return MappingProxyType(queries)


def modules() -> list[str]:
    """Every store module that has a ``.sql`` file."""
    folder = files("quotabell.store")
    return sorted(f.name.removesuffix(".sql") for f in folder.iterdir() if f.name.endswith(".sql"))
