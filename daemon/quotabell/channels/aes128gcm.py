"""Encrypting a push message: one record of aes128gcm (RFC 8188) for a browser (RFC 8291).

What ``pywebpush.WebPusher.encode`` does, with the same primitives and little more than half of
the time: the rest of its time goes into objects and derivations that are made anew each time.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quotabell.domain.push_keys import decode_base64url

_CURVE: Final = ec.SECP256R1()
_HEADER: Final = (4096).to_bytes(4, "big") + bytes([65])  # record size, length of the key


@dataclass(frozen=True, slots=True)
class Receiver:
    """The keys of a subscription, ready to be encrypted to."""

    point: bytes
    auth: bytes = field(repr=False)
    public: ec.EllipticCurvePublicKey = field(repr=False)

    @classmethod
    def of(cls, p256dh: str, auth: str) -> Self:
        """For keys that ``check_keys`` passed; ValueError for others."""
        point, secret = decode_base64url(p256dh), decode_base64url(auth)
        if point is None or secret is None:
            raise ValueError("not base64url")
        return cls(point, secret, ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point))

    def encrypt(
        self,
        text: bytes,
        *,
        private: ec.EllipticCurvePrivateKey | None = None,
        salt: bytes | None = None,
    ) -> bytes:
        """The body of the request. ``private`` and ``salt`` are new each time, but for tests."""
        private = private or ec.generate_private_key(_CURVE)
        salt = salt or os.urandom(16)
        own = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        # HKDF (RFC 5869) with one block of output is two HMACs.
        secret = _hmac(self.auth, private.exchange(ec.ECDH(), self.public))
        material = _hmac(secret, b"WebPush: info\0" + self.point + own + b"\1")
        key = _hmac(salt, material)
        content_key = _hmac(key, b"Content-Encoding: aes128gcm\0\1")[:16]
        nonce = _hmac(key, b"Content-Encoding: nonce\0\1")[:12]
        # 2: the last record, without padding of its own.
        return salt + _HEADER + own + AESGCM(content_key).encrypt(nonce, text + b"\2", None)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
