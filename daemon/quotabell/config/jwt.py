"""``auth.jwt``: signed tokens of a front end (RFC 7519), each of one user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from quotabell.config.base import Section
from quotabell.config.fields import Duration, Located, Scope, Scopes, between, located, shown_as

Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
AnyPublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
MAX_KEYS = 16
MIN_RSA_BITS = 2048  # RFC 7518 §3.3
_MAX_FILE = 64 * 1024  # bytes
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with, and the file that it was read from."""

    path: Path
    key: AnyPublicKey

    def __str__(self) -> str:
        return str(self.path)


def _algorithm(value: object) -> object:
    if value not in ALGORITHMS:
        named = repr(value[:40]) if isinstance(value, str) else "this"
        raise ValueError(f"{named} is no algorithm that is taken; one of {', '.join(ALGORITHMS)}")
    return value


def _public_key(value: object, info: ValidationInfo) -> PublicKey:
    if isinstance(value, PublicKey):
        return value
    path = located(value, info)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if b"PRIVATE KEY" in data:
        raise ValueError(f"{path} holds a private key; give its public key")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no public key in PEM form") from None
    if not isinstance(key, AnyPublicKey):
        raise ValueError(f"{path} holds no RSA, EC or Ed25519 key")
    return PublicKey(path, key)


def _short(value: tuple[PublicKey, ...]) -> tuple[PublicKey, ...]:
    if len(value) > MAX_KEYS:
        raise ValueError(f"must hold at most {MAX_KEYS} keys, not {len(value)}")
    return value


def _named(value: str) -> str:
    if not 1 <= len(value) <= 200 or not value.isprintable():
        raise ValueError("must be 1 to 200 printable characters")
    return value


def _of_a_user(value: tuple[Scope, ...]) -> tuple[Scope, ...]:
    for scope in ("admin", "metrics"):
        if scope in value:
            raise ValueError(f"must not hold {scope}, which sees every user; these are of one")
    return value


_Keys = Annotated[
    tuple[Annotated[PublicKey, PlainValidator(_public_key), shown_as(str)], ...],
    AfterValidator(_short),
]
_Secret = Annotated[
    SecretStr, shown_as(lambda value: "<secret>" if value.get_secret_value() else "")
]
_Name = Annotated[str, AfterValidator(_named)]


class Jwt(Section):
    """Which signed tokens are taken, and what their bearers may. Each is bound to its user."""

    algorithm: Annotated[Algorithm, BeforeValidator(_algorithm)] = "HS256"
    secret: _Secret = SecretStr("")
    secret_file: Located | None = None
    public_key_files: _Keys = ()
    audience: _Name = "authenticated"
    issuer: _Name | None = None
    user_claim: _Name = "sub"
    scopes: Annotated[Scopes, AfterValidator(_of_a_user)] = ("ingest", "read", "push")
    leeway: Annotated[Duration, between(timedelta(0), timedelta(minutes=5))] = timedelta(seconds=10)

    @model_validator(mode="after")
    def _key_fits(self) -> Self:
        """One algorithm and the kind of key that it takes: a token decides neither."""
        secret = self.secret.get_secret_value()
        if self.algorithm.startswith("HS"):
            if self.public_key_files:
                raise ValueError(f"public_key_files do not go with {self.algorithm}; drop them")
            _check_secret(secret, self.algorithm)
            return self
        if secret:
            raise ValueError(f"a secret does not go with {self.algorithm}; drop it")
        if not self.public_key_files:
            raise ValueError(f"needs public_key_files for {self.algorithm}")
        for public in self.public_key_files:
            _check_key(public, self.algorithm)
        return self


def _check_secret(secret: str, algorithm: str) -> None:
    """Raises ValueError for a secret that can be guessed, or that is no secret."""
    if not secret:
        raise ValueError(f"needs secret or secret_file for {algorithm}")
    if "-----BEGIN" in secret or secret.startswith("ssh-"):
        raise ValueError(f"secret is a key of a pair, which does not go with {algorithm}")
    least = int(algorithm[2:]) // 8  # RFC 7518 §3.2
    if len(secret.encode()) < least:
        raise ValueError(
            f"secret is shorter than {least} bytes and so can be guessed; "
            f"make one with: openssl rand -hex {least}"
        )


def _check_key(public: PublicKey, algorithm: str) -> None:
    """Raises ValueError for a key of another kind, or a weak one."""
    key, curve = public.key, _CURVES.get(algorithm)
    fits = (
        (isinstance(key, RSAPublicKey) and algorithm[:2] in ("RS", "PS"))
        or (isinstance(key, EllipticCurvePublicKey) and key.curve.name == curve)
        or (isinstance(key, Ed25519PublicKey) and algorithm == "EdDSA")
    )
    if not fits:
        raise ValueError(f"{public.path} holds no key for {algorithm}")
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise ValueError(f"{public.path} is shorter than {MIN_RSA_BITS} bits")
