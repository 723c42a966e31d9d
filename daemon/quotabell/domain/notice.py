"""What a message about an alert carries besides its words."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from typing import Literal

HIGH_FROM = 90.0  # percent; from here on a phone may wake its screen


def tag(state_id: str, kind: str) -> str:
    """Names the alert, never its level: a newer message replaces an older one."""
    return f"{state_id}:{kind}"


def topic(key: bytes, tag: str) -> str:
    """RFC 8030 §5.4: at most 32 characters of base64url. Keyed, since push services see it."""
    digest = hmac.new(key, tag.encode(), sha256).digest()
    return base64.urlsafe_b64encode(digest)[:32].decode()


def urgency(transition: str, level: float | None) -> Literal["normal", "high"]:
    """RFC 8030 §5.3: high is for what is time-sensitive."""
    return "high" if transition == "firing" and (level or 0.0) >= HIGH_FROM else "normal"
