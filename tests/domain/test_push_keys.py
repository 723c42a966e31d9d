from __future__ import annotations

import base64
import itertools
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quotabell.domain.push_keys import check_keys, on_p256
from tests.support.push_browser import b64u


def key_pair() -> tuple[str, str]:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return b64u(point), b64u(secrets.token_bytes(16))


@pytest.mark.parametrize("padding", ["", "="])
def test_keys_of_a_browser_are_good(padding: str) -> None:
    p256dh, auth = key_pair()

    assert check_keys(p256dh + padding, auth + 2 * padding) is None


def bad_keys() -> list[tuple[object, object]]:
    """Keys that nothing can be encrypted to."""
    p256dh, auth = key_pair()
    point = base64.urlsafe_b64decode(p256dh + "=")
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    small = 5  # on the curve, and small enough that adding the prime still fits 32 bytes
    small_y = pow(small**3 - 3 * small + b, (prime + 1) // 4, prime)
    assert on_p256(small, small_y)
    return [
        (None, None),
        (p256dh, None),
        (None, auth),
        (1, auth),
        (p256dh, 1),
        ([p256dh], auth),
        (p256dh, {"x": 1}),
        (True, auth),
        ("", auth),
        (p256dh, ""),
        (b64u(b"\x02" + point[1:]), auth),
        (b64u(b"\x06" + point[1:]), auth),
        (b64u(b"\x00" + point[1:]), auth),
        (b64u(b"\x02" + point[1:33]), auth),
        (b64u(b"\x00"), auth),
        (b64u(point[:64]), auth),
        (b64u(point + b"\x00"), auth),
        (b64u(b"\x04" + bytes(64)), auth),
        (b64u(point[:64] + bytes([point[64] ^ 1])), auth),
        (b64u(b"\x04" + prime.to_bytes(32, "big") + point[33:]), auth),
        (b64u(b"\x04" + (small + prime).to_bytes(32, "big") + small_y.to_bytes(32, "big")), auth),
        (b64u(b"\x04" + b"\xff" * 64), auth),
        (p256dh, b64u(bytes(4))),
        (p256dh, b64u(bytes(15))),
        (p256dh, b64u(bytes(17))),
        (p256dh, auth[:-1]),
        (p256dh, auth + "="),
        (p256dh, auth + "==="),
        (p256dh, "+" + auth[1:]),
        (p256dh, "/" + auth[1:]),
        (p256dh, " " + auth),
        (p256dh, auth + "\n"),
        (p256dh, auth[:-1] + "é"),
        (p256dh, auth[:-1] + chr(ord("B"))),
        ("%" + p256dh[1:], auth),
        (p256dh + "==", auth),
    ]


@pytest.mark.parametrize(("p256dh", "auth"), bad_keys(), ids=itertools.count())
def test_bad_keys_are_refused_with_a_reason_that_does_not_repeat_them(
    p256dh: object, auth: object
) -> None:
    reason = check_keys(p256dh, auth)

    assert reason is not None
    assert not (isinstance(auth, str) and len(auth) > 4 and auth in reason)


def test_the_curve_is_that_of_the_library() -> None:
    for _ in range(20):
        numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
        assert on_p256(numbers.x, numbers.y)
        assert not on_p256(numbers.x, numbers.y ^ 1)
        assert not on_p256(numbers.y, numbers.x)
