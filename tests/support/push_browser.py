"""The browser's half of Web Push: subscriptions with their private keys, and what they check."""

from __future__ import annotations

import base64
import json
import re
import secrets
import struct
import time
from typing import Any

import http_ece
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_AHEAD = 24 * 3600  # seconds that a token may last


def b64u(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Browser:
    """A subscription with its private half."""

    def __init__(self, endpoint: str, token: str, server_key: str | None) -> None:
        self.endpoint = endpoint
        self.token = token
        self.server_key = server_key  # the only key that may send to it; None: any
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.auth = secrets.token_bytes(16)
        self.gone = False  # 410 from now on

    @property
    def subscription(self) -> dict[str, Any]:
        """As ``PushSubscription.toJSON()`` gives it."""
        point = self.private.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
        keys = {"p256dh": b64u(point), "auth": b64u(self.auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    def read(self, body: bytes) -> bytes:
        """Raises ValueError for what a browser drops."""
        if len(body) < 86 or body[20] != 65:
            raise ValueError("the record header holds no sender key")
        record_size = struct.unpack("!L", body[16:20])[0]
        if len(body) - 86 > record_size:
            raise ValueError("more than one record (RFC 8291 §4)")
        try:
            plain = http_ece.decrypt(
                body, private_key=self.private, auth_secret=self.auth, version="aes128gcm"
            )
        except http_ece.ECEException as error:
            raise ValueError(f"not decrypted: {error.message}") from None
        assert isinstance(plain, bytes)
        return plain


def verify_vapid(
    header: str, origin: str, server_key: str | None, now: float | None = None
) -> dict[str, Any]:
    """The claims of ``vapid t=…,k=…``; raises ValueError for what RFC 8292 forbids.

    ``now``: seconds since the epoch, if not those of this program's clock.
    """
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "vapid":
        raise ValueError("no Authorization of the scheme vapid")
    parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    if set(parts) != {"t", "k"}:
        raise ValueError("the parameters are not t and k")
    if "=" in parts["k"] or parts["t"].count(".") != 2:
        raise ValueError("k is padded or t is no JWT")
    signed, _, signature = parts["t"].rpartition(".")
    head64, claims64 = signed.split(".")
    raw = unb64u(signature)
    if json.loads(unb64u(head64)).get("alg") != "ES256" or len(raw) != 64:
        raise ValueError("not ES256")
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64u(parts["k"]))
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        public.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ValueError("bad signature") from None
    if server_key is not None and parts["k"] != server_key:
        raise ValueError("not the key of the subscription")
    claims = json.loads(unb64u(claims64))
    if claims.get("aud") != origin:
        raise ValueError(f"aud is {claims.get('aud')!r}, not {origin!r}")
    now = time.time() if now is None else now
    exp = claims.get("exp")
    if isinstance(exp, bool) or not isinstance(exp, int | float):
        raise ValueError("exp is no number")
    if not now < exp <= now + MAX_AHEAD:
        raise ValueError("exp is past or more than 24 h ahead")
    if not re.fullmatch(r"mailto:[^@]+@.+|https://.+", str(claims.get("sub"))):
        raise ValueError("sub is neither mailto: nor https:")
    assert isinstance(claims, dict)
    return claims
