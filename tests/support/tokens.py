"""Signed tokens as Supabase gives them to its users, and their forgeries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt

SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"


def claims(user: str, **more: Any) -> dict[str, Any]:
    """What Supabase's auth server puts into a user's token; None leaves a claim out."""
    now = int(time.time())
    found = {
        "iss": "https://project.example.com/auth/v1",
        "sub": user,
        "aud": "authenticated",
        "exp": now + 3600,
        "iat": now,
        "email": f"{user}@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email_verified": True},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now}],
        "session_id": "9a8b7c6d-0000-4000-8000-000000000000",
        "is_anonymous": False,
    } | more
    return {name: value for name, value in found.items() if value is not None}


def supabase(user: str, *, secret: str = SECRET, **more: Any) -> str:
    """A token of a user, signed as Supabase's legacy secret does."""
    return jwt.encode(claims(user, **more), secret, algorithm="HS256")


def assembled(header: dict[str, Any], payload: object, signature: bytes = b"") -> str:
    """A token with just these parts, whatever they say."""
    head, body = (json.dumps(part).encode() for part in (header, payload))
    return ".".join(_b64(part) for part in (head, body, signature))


def signed_as(header: dict[str, Any], payload: object, key: str | bytes = SECRET) -> str:
    """A token with this header, whatever it says, and a right signature by HS256."""
    unsigned = assembled(header, payload).rpartition(".")[0]
    return f"{unsigned}.{_b64(mac(unsigned, key))}"


def mac(text: str, key: str | bytes = SECRET) -> bytes:
    """The signature of a text by HS256."""
    key = key.encode() if isinstance(key, str) else key
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
