"""Which keys of a push subscription can be encrypted to."""

from __future__ import annotations

import base64
import re
from typing import Final


def check_keys(p256dh: object, auth: object) -> str | None:
    """Why nothing can be encrypted for these keys; None if they are good.

    ``p256dh`` is an uncompressed point on P-256 (65 bytes), ``auth`` a secret of 16 bytes, both
    in base64url with or without padding (RFC 8291 §2.1, §3.2).
    """
    if p256dh is None or auth is None:
        return "the subscription has no keys"
    point = decode_base64url(p256dh)
    if point is None:
        return "keys.p256dh is not base64url"
    if len(point) != 65 or point[0] != 4:
        return "keys.p256dh is not an uncompressed point of 65 bytes"
    if not on_p256(int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")):
        return "keys.p256dh is not a point on the curve P-256"
    secret = decode_base64url(auth)
    if secret is None:
        return "keys.auth is not base64url"
    if len(secret) != 16:
        return "keys.auth is not 16 bytes long"
    return None


def decode_base64url(value: object) -> bytes | None:
    """The bytes of canonical base64url, padded fully or not at all (RFC 4648 §5); else None."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]*={0,2}", value):
        return None
    bare = value.rstrip("=")
    padding = "=" * (-len(bare) % 4)
    if len(bare) % 4 == 1 or value not in (bare, bare + padding):
        return None
    raw = base64.urlsafe_b64decode(bare + padding)
    # Another last character can stand for the same bytes; only one of them is canonical.
    return raw if base64.urlsafe_b64encode(raw).decode().rstrip("=") == bare else None


_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def on_p256(x: int, y: int) -> bool:
    """Whether y² = x³ - 3x + b (mod p): SEC 1 §3.2.2.1 for secp256r1, whose cofactor is 1."""
    return 0 <= x < _P and 0 <= y < _P and (y * y - (x * x - 3) * x - _B) % _P == 0
