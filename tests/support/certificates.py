"""Certificates of an authority that exists for one test."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Issued:
    """A chain in PEM form and its key; ``serial`` tells one from another."""

    chain: bytes
    key: ec.EllipticCurvePrivateKey
    serial: int
    expires: datetime

    @property
    def spki(self) -> str:
        """What Chromium's ``--ignore-certificate-errors-spki-list`` takes."""
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(public).digest()).decode()

    def pem(self, password: bytes | None = None) -> bytes:
        hidden = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)

    def write(self, cert_file: Path, key_file: Path) -> None:
        cert_file.write_bytes(self.chain)
        key_file.write_bytes(self.pem())
        key_file.chmod(0o600)


class Authority:
    """A root and an intermediate that signs: clients know the root only."""

    def __init__(self) -> None:
        root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root = _signed("root", root_key, "root", root_key, authority=True)
        self._middle = _signed("middle", self._key, "root", root_key, authority=True)

    @property
    def pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    def trust(self) -> ssl.SSLContext:
        """What a client of this authority's servers connects with."""
        return ssl.create_default_context(cadata=self.pem.decode())

    def issue(self, name: str, days: int = 30) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _signed(name, key, "middle", self._key, days=days)
        chain = made.public_bytes(Encoding.PEM) + self._middle.public_bytes(Encoding.PEM)
        return Issued(chain, key, made.serial_number, made.not_valid_after_utc)


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
    days: int = 30,
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                **usage,
                **dict.fromkeys(
                    ("content_commitment", "key_encipherment", "data_encipherment"), False
                ),
                **dict.fromkeys(("key_agreement", "encipher_only", "decipher_only"), False),
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
    )
    if not authority:
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(by, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
