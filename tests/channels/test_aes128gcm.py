"""RFC 8291, Appendix A; what the reference makes of any message; what a browser reads."""

from __future__ import annotations

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from pywebpush import WebPusher

from quotabell.channels.aes128gcm import Receiver
from tests.support.push_browser import Browser, b64u, unb64u

PLAIN = b"When I grow up, I want to be a watermelon"
PRIVATE = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS"
    "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qu"
    "lcy4a-fN"
)
_CURVE = ec.SECP256R1()
_NUMBERS = st.integers(1, 2**255)  # of private keys: all are below the order of the group


def test_the_example_of_the_rfc_is_met() -> None:
    private = ec.derive_private_key(int.from_bytes(unb64u(PRIVATE), "big"), _CURVE)

    body = Receiver.of(P256DH, AUTH).encrypt(PLAIN, private=private, salt=unb64u(SALT))

    assert body == unb64u(BODY)


@settings(max_examples=50, deadline=None)
@given(
    st.binary(min_size=1, max_size=3993), st.binary(min_size=16, max_size=16), _NUMBERS, _NUMBERS
)
def test_any_message_is_encrypted_as_by_the_reference(
    text: bytes, secret: bytes, sender: int, receiver: int
) -> None:
    browser = Browser("https://push.example/x", "x", None)
    browser.private, browser.auth = ec.derive_private_key(receiver, _CURVE), secret
    keys = browser.subscription["keys"]
    private = ec.derive_private_key(sender, _CURVE)
    theirs = http_ece.encrypt(
        text,
        salt=secret[::-1],
        private_key=private,
        dh=unb64u(keys["p256dh"]),
        auth_secret=secret,
        version="aes128gcm",
    )

    assert Receiver.of(**keys).encrypt(text, private=private, salt=secret[::-1]) == theirs
    assert browser.read(Receiver.of(**keys).encrypt(text)) == text


@pytest.mark.parametrize("size", [1, 2641, 3993])
def test_a_browser_reads_it_as_it_does_what_pywebpush_sends(size: int) -> None:
    browser = Browser("https://push.example/x", "x", None)
    receiver = Receiver.of(**browser.subscription["keys"])
    text = (bytes(range(256)) * 16)[:size]
    theirs = WebPusher(browser.subscription).encode(text, content_encoding="aes128gcm")["body"]

    first, second = receiver.encrypt(text), receiver.encrypt(text)

    assert browser.read(first) == browser.read(second) == browser.read(theirs) == text
    assert first[:16] != second[:16]  # the salt
    assert first[21:86] != second[21:86]  # the key
    assert len(first) == len(theirs) == 86 + size + 17


def test_padded_base64_is_read_too() -> None:
    assert Receiver.of(P256DH + "=", AUTH + "==") == Receiver.of(P256DH, AUTH)


def test_a_point_off_the_curve_is_refused() -> None:
    broken = b64u(unb64u(P256DH)[:-1] + b"\0")
    with pytest.raises(ValueError, match=r"(?i)point|curve|key"):
        Receiver.of(broken, AUTH)


def test_its_secrets_are_not_shown() -> None:
    assert "auth" not in repr(Receiver.of(P256DH, AUTH))
