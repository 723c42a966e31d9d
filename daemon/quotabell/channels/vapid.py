"""Who is sending: VAPID keys and the signed header (RFC 8292)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from quotabell.domain.push_keys import decode_base64url
from quotabell.errors import QuotabellError

KEY_FILE: Final = "vapid.pem"
HOUR: Final = 3600.0
LIFETIME: Final = 12 * HOUR  # of a token; more than 24 h are refused (RFC 8292 §2)
_HALF_LIFE: Final = LIFETIME / 2
_MAX_AHEAD: Final = 24 * HOUR
_SKEW: Final = 60.0  # seconds before its end at which a token counts as expired
_MAX_ORIGINS: Final = 1024  # remembered headers: a bound against made-up host names


class VapidKeyError(QuotabellError):
    """The VAPID key cannot be used: it must be a P-256 private key, in PEM or base64url."""


@dataclass(frozen=True, slots=True)
class VapidKey:
    """A key pair of this application server."""

    id: str  # the first 16 hex digits of SHA-256 of the public key
    public: str  # the uncompressed point in unpadded base64url: applicationServerKey
    private: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey) -> Self:
        point = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return cls(hashlib.sha256(point).hexdigest()[:16], _base64url(point), private)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From PEM, or from the raw 32 bytes in base64url that web-push tools print."""
        try:
            if "-----BEGIN" in text:
                private = serialization.load_pem_private_key(text.encode(), password=None)
            else:
                raw = decode_base64url(text.strip())
                if raw is None or len(raw) != 32:
                    raise VapidKeyError
                private = ec.derive_private_key(int.from_bytes(raw, "big"), ec.SECP256R1())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise VapidKeyError from None  # the cause could quote the key
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(
            private.curve, ec.SECP256R1
        ):
            raise VapidKeyError
        return cls.of(private)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises VapidKeyError, naming the file, if it is missing or holds no such key."""
        try:
            return cls.parse(path.read_text(encoding="ascii"))
        except OSError as error:
            raise VapidKeyError(f"{path}: {error.strerror}") from None
        except (VapidKeyError, UnicodeDecodeError):
            raise VapidKeyError(f"{path}: {VapidKeyError.__doc__}") from None

    @classmethod
    def load_or_create(cls, data_dir: Path) -> Self:
        """The key of the data directory, made on first use, readable by the owner only.

        The file appears complete or not at all, and of two daemons that start together one
        makes it and both use it.
        """
        path = data_dir / KEY_FILE
        if not path.exists():
            _create(path, ec.generate_private_key(ec.SECP256R1()))
        return cls.load(path)


def _create(path: Path, private: ec.EllipticCurvePrivateKey) -> None:
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename, never replaces another daemon's key
        except FileExistsError:
            return
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


_SUBJECT: Final = re.compile(
    r"mailto:[^\s@<>,]+@(?P<domain>[^\s@<>,?]+)|https://(?P<host>[^\s/:?#@]+)(?::\d+)?(?:[/?#]\S*)?",
    re.ASCII,
)


def subject_problem(subject: str) -> str | None:
    """Why push services would refuse this contact (RFC 8292 §2.1); None: it is good.

    Apple answers 403 to a contact at localhost.
    """
    match = _SUBJECT.fullmatch(subject)
    if match is None:
        return "must be mailto:name@domain or an https: URL"
    domain = (match["domain"] or match["host"]).lower()
    if "." not in domain.strip(".") or domain.endswith((".localhost", ".local", ".")):
        return "must name a real domain; push services refuse localhost"
    return None


@dataclass(slots=True)
class _Issued:
    header: str = field(repr=False)
    expires: float  # wall clock
    until: float  # monotonic clock
    resigned: float | None = None  # monotonic clock of the last signature after a refusal


class VapidSigner:
    """The Authorization header of one key, remembered for each origin.

    Apple forbids fresh tokens oftener than hourly, so a header serves for at least an hour and
    usually for six. Tokens expire on a grid of six hours and their signatures are
    deterministic (RFC 6979), so replicas and restarts within one slot send the very same token.

    ``wall`` gives seconds since the epoch, ``monotonic`` seconds that never jump.
    """

    def __init__(
        self,
        key: VapidKey,
        subject: str,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for a contact that push services refuse."""
        problem = subject_problem(subject)
        if problem is not None:
            raise ValueError(f"push.subject {problem}")
        self.key = key
        self.signatures = 0  # made so far
        self._subject = subject
        self._wall = wall
        self._monotonic = monotonic
        self._issued: dict[str, _Issued] = {}

    def header(self, origin: str) -> str:
        """The header's value for a push service's origin (``scheme://host[:port]``)."""
        issued = self._issued.get(origin)
        now = self._wall()
        if issued is not None and self._monotonic() < issued.until:
            # A clock that was set since may have made it useless, whatever its age.
            if now < issued.expires - _SKEW and issued.expires <= now + _MAX_AHEAD:
                return issued.header
        slot_end = (now // _HALF_LIFE + 1) * _HALF_LIFE
        lasts = max(slot_end - now, HOUR)
        resigned = issued.resigned if issued is not None else None
        return self._issue(origin, slot_end + _HALF_LIFE, lasts, resigned).header

    def invalidate(self, origin: str, header: str) -> bool:
        """Drop a header that was answered with 401 or 403; is there another one to try?

        A new token is signed at most once an hour for an origin; many sends that were refused
        together share it.
        """
        issued = self._issued.get(origin)
        if issued is None or issued.header != header:
            return True
        now = self._monotonic()
        if issued.resigned is not None and now - issued.resigned < HOUR:
            return False
        self._issue(origin, self._wall() + LIFETIME, _HALF_LIFE, now)
        return True

    def _issue(self, origin: str, expires: float, lasts: float, resigned: float | None) -> _Issued:
        """Sign a token that expires at ``expires`` and serves for ``lasts`` seconds."""
        self._issued.pop(origin, None)
        while len(self._issued) >= _MAX_ORIGINS:
            del self._issued[next(iter(self._issued))]
        claims = {"aud": origin, "exp": int(expires), "sub": self._subject}
        header = f"vapid t={sign_jwt(claims, self.key.private)},k={self.key.public}"
        self.signatures += 1
        issued = _Issued(header, int(expires), self._monotonic() + lasts, resigned)
        self._issued[origin] = issued
        return issued


class Keyring:
    """The signers by key id; the newest key is the one that new subscribers are given."""

    def __init__(self, signers: Iterable[VapidSigner]) -> None:
        """Newest first; raises ValueError for none."""
        self._signers = {signer.key.id: signer for signer in reversed(list(signers))}
        if not self._signers:
            raise ValueError("a keyring holds at least one key")
        self.newest = list(self._signers.values())[-1]

    def signer(self, key_id: str) -> VapidSigner | None:
        """The signer of a subscription's key; None: this daemon does not hold it."""
        return self._signers.get(key_id)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._signers)

    def id_of_public(self, public: str) -> str | None:
        """The id of the key with this public part; None: it is not one of these."""
        return next((s.key.id for s in self._signers.values() if s.key.public == public), None)

    @property
    def signatures(self) -> int:
        """Tokens signed so far, over all keys."""
        return sum(signer.signatures for signer in self._signers.values())


def sign_jwt(claims: Mapping[str, object], key: ec.EllipticCurvePrivateKey) -> str:
    """A JSON Web Token with ES256 (RFC 7515 §3.1, RFC 7518 §3.4); the claims sorted by name."""
    header = _base64url(b'{"typ":"JWT","alg":"ES256"}')
    body = _base64url(json.dumps(dict(claims), separators=(",", ":"), sort_keys=True).encode())
    signed = f"{header}.{body}"
    try:
        der = key.sign(signed.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    except UnsupportedAlgorithm:  # an old OpenSSL: as valid, only different every time
        der = key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
