"""People and programs that use one daemon, each with a token of their own."""

from __future__ import annotations

from typing import Any

from tests.http.client import Client

TOKENS: list[dict[str, Any]] = [
    {"name": "ops", "token": "o" * 20, "scopes": ["admin"]},
    {"name": "ada", "token": "a" * 20, "scopes": ["read", "push", "ingest"], "user": "ada"},
    {"name": "bob", "token": "b" * 20, "scopes": ["read", "push", "ingest"], "user": "bob"},
    {"name": "reader", "token": "r" * 20, "scopes": ["read"]},
    {"name": "pusher", "token": "p" * 20, "scopes": ["push"]},
    {"name": "apps", "token": "i" * 20, "scopes": ["ingest"]},
]


def acting(client: Client, name: str) -> Client:
    """The client with the token of this name."""
    return client.with_token(next(str(t["token"]) for t in TOKENS if t["name"] == name))
