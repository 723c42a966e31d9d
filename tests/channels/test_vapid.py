from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from py_vapid import Vapid02

from quotabell.channels.vapid import HOUR, Keyring, VapidKey, VapidKeyError, VapidSigner
from quotabell.channels.vapid import subject_problem as problem_of
from tests.support.push_browser import b64u, unb64u, verify_vapid

SUBJECT = "mailto:ops@example.com"
ORIGIN = "https://fcm.googleapis.com"
RAW = b64u(bytes(31) + b"\x07")


class Clock:
    """Wall and monotonic time that only the test moves."""

    def __init__(self, wall: float = 1_795_000_000.0) -> None:
        self.wall = wall
        self.monotonic = 5.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def signer(clock: Clock | None = None, key: VapidKey | None = None) -> VapidSigner:
    clock = clock or Clock(time.time())
    return VapidSigner(
        key or VapidKey.parse(RAW),
        SUBJECT,
        wall=lambda: clock.wall,
        monotonic=lambda: clock.monotonic,
    )


def claims(header: str) -> dict[str, object]:
    token = header.removeprefix("vapid t=").partition(",k=")[0]
    value = json.loads(unb64u(token.split(".")[1]))
    assert isinstance(value, dict)
    return value


# Keys


def test_a_key_reads_the_same_from_pem_and_from_raw_base64url() -> None:
    raw = VapidKey.parse(RAW)
    pem = raw.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    traditional = raw.private.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()

    assert VapidKey.parse(pem) == VapidKey.parse(traditional) == VapidKey.parse(RAW + "=\n") == raw
    point = base64.urlsafe_b64decode(raw.public + "=")
    assert (len(point), point[0]) == (65, 4)
    assert raw.id == hashlib.sha256(point).hexdigest()[:16]


def other_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        b64u(bytes(31)),
        b64u(bytes(32)),
        b64u(b"\xff" * 32),
        b64u(b"\x01" * 33),
        "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n",
        VapidKey.parse(RAW)
        .private.public_key()
        .public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        other_pem(ec.generate_private_key(ec.SECP384R1())),
        other_pem(ed25519.Ed25519PrivateKey.generate()),
        VapidKey.parse(RAW)
        .private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
        .decode(),
    ],
)
def test_what_is_no_p256_private_key_is_refused_without_repeating_it(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "vapid.pem").write_text(text)
    with pytest.raises(VapidKeyError) as parsed:
        VapidKey.parse(text)
    with pytest.raises(VapidKeyError) as loaded:
        VapidKey.load(tmp_path / "vapid.pem")

    assert "secret" not in str(parsed.value) + str(loaded.value)
    assert str(tmp_path / "vapid.pem") in str(loaded.value)
    assert parsed.value.__cause__ is None


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VapidKeyError, match=r"newest\.pem: No such file"):
        VapidKey.load(tmp_path / "newest.pem")


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        made = VapidKey.load_or_create(tmp_path)
    finally:
        os.umask(previous)

    assert VapidKey.load_or_create(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["vapid.pem"]
    assert stat.S_IMODE((tmp_path / "vapid.pem").stat().st_mode) == 0o600


def test_daemons_that_start_together_share_one_key(tmp_path: Path) -> None:
    keys: list[VapidKey] = []
    start = threading.Barrier(8)

    def run() -> None:
        start.wait(10)
        keys.append(VapidKey.load_or_create(tmp_path))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(keys) == 8
    assert len({key.id for key in keys}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["vapid.pem"]


def test_a_private_key_is_not_printed() -> None:
    key = VapidKey.parse(RAW)

    assert "private" not in repr(key)
    assert key.public in repr(key)


# The subject


@pytest.mark.parametrize(
    "subject",
    ["mailto:ops@example.com", "mailto:a.b+c@mail.example.co.uk", "https://example.com",
     "https://example.com/contact?x=1", "https://example.com:8443/"],
)  # fmt: skip
def test_a_contact_that_push_services_take_is_good(subject: str) -> None:
    assert problem_of(subject) is None


@pytest.mark.parametrize(
    "subject",
    ["", "ops@example.com", "mailto:", "mailto:ops", "mailto:@example.com", "mailto:ops@localhost",
     "mailto:ops@host.local", "mailto:ops@", "mailto:a@b@example.com", "http://example.com",
     "https://localhost", "https://localhost:8443/x", "https://", "https://u@example.com",
     "mailto:ops@example.com\n", "mailto:<ops@example.com>", "mailto:ops@example.com."],
)  # fmt: skip
def test_a_contact_that_push_services_refuse_is_refused_at_start(subject: str) -> None:
    assert problem_of(subject)
    with pytest.raises(ValueError, match=r"push\.subject must"):
        VapidSigner(VapidKey.parse(RAW), subject)


# Signing


def test_a_header_passes_two_independent_checks() -> None:
    made = signer()
    header = made.header(ORIGIN)

    assert verify_vapid(header, ORIGIN, made.key.public)["sub"] == SUBJECT
    assert Vapid02.verify(header) is True


def test_a_header_is_signed_once_for_each_origin() -> None:
    made = signer()
    origins = [ORIGIN, "https://web.push.apple.com"]
    headers = [made.header(origins[n % 2]) for n in range(100)]

    assert made.signatures == 2
    assert [claims(header)["aud"] for header in headers[:4]] == origins * 2
    assert len(set(headers)) == 2


def test_over_days_no_hour_sees_two_tokens_and_none_ends_too_soon_or_too_late() -> None:
    clock = Clock()
    made = signer(clock)
    changes: list[float] = []
    last = ""
    for _ in range(72 * 12):
        header = made.header(ORIGIN)
        if header != last:
            changes.append(clock.monotonic)
            last = header
        ahead = float(str(claims(header)["exp"])) - clock.wall
        assert 4 * HOUR < ahead <= 12 * HOUR
        clock.pass_(300)

    assert all(b - a >= HOUR for a, b in pairwise(changes))
    assert len(changes) == made.signatures == 13


def test_a_token_that_began_just_before_its_slot_ends_still_serves_an_hour() -> None:
    clock = Clock(wall=6 * HOUR * 80_000 - 10)
    made = signer(clock)
    first = made.header(ORIGIN)
    clock.pass_(HOUR - 1)

    assert made.header(ORIGIN) == first
    clock.pass_(2)
    assert made.header(ORIGIN) != first


def test_replicas_and_restarts_send_the_same_token() -> None:
    clock = Clock()
    first = signer(clock).header(ORIGIN)
    clock.pass_(60)

    assert signer(clock).header(ORIGIN) == first


def test_a_refused_token_is_signed_again_once_an_hour() -> None:
    clock = Clock()
    made = signer(clock)
    first = made.header(ORIGIN)
    clock.pass_(1)

    assert made.invalidate(ORIGIN, first)
    second = made.header(ORIGIN)
    assert second != first
    assert made.invalidate(ORIGIN, first), "others that were refused take the new one"
    assert not made.invalidate(ORIGIN, second)
    clock.pass_(HOUR - 1)
    assert not made.invalidate(ORIGIN, second)
    assert made.signatures == 2
    clock.pass_(1)
    assert made.invalidate(ORIGIN, second)
    assert made.signatures == 3


def test_renewing_does_not_forget_that_a_token_was_refused() -> None:
    clock = Clock()
    made = signer(clock)
    for _ in range(7 * 60):
        made.invalidate(ORIGIN, made.header(ORIGIN))
        clock.pass_(60)

    assert made.signatures <= 1 + 7 + 2


@pytest.mark.parametrize("jump", [-400 * 24 * HOUR, -20 * HOUR, 13 * HOUR, 400 * 24 * HOUR])
def test_a_clock_that_is_set_does_not_leave_a_useless_token(jump: float) -> None:
    clock = Clock()
    made = signer(clock)
    made.header(ORIGIN)
    clock.wall += jump

    ahead = float(str(claims(made.header(ORIGIN))["exp"])) - clock.wall
    assert 0 < ahead <= 24 * HOUR
    assert made.signatures == 2


def test_made_up_origins_do_not_fill_the_memory() -> None:
    made = signer()
    for n in range(1100):
        made.header(f"https://n{n}.push.apple.com")

    assert len(made._issued) == 1024


def test_a_keyring_signs_with_the_key_of_the_subscription() -> None:
    old, new = VapidKey.parse(RAW), VapidKey.parse(b64u(bytes(31) + b"\x08"))
    ring = Keyring([signer(key=new), signer(key=old)])

    assert ring.newest.key == new
    assert ring.ids == {old.id, new.id}
    for key in (old, new):
        made = ring.signer(key.id)
        assert made is not None
        verify_vapid(made.header(ORIGIN), ORIGIN, key.public)
    assert ring.signer("0" * 16) is None
    assert ring.signatures == 2
    with pytest.raises(ValueError, match="at least one key"):
        Keyring([])
