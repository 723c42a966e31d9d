"""``tls``: the certificate that the daemon shows, named as Prometheus' exporters name theirs."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from pydantic import model_validator

from quotabell.config.base import Section
from quotabell.config.fields import Located
from quotabell.config.files import read_bytes

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_MAX_FILE = 1024 * 1024  # bytes
_OTHERS = 0o007  # permissions of whoever is neither owner nor in the group


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the files held: ready for connections. Shows nothing of the key."""

    context: ssl.SSLContext
    expires: datetime
    leaf: str  # PEM
    state: bytes  # of the files; differs when they do

    def own(self) -> ssl.SSLContext:
        """What a client on this machine trusts: this very certificate, under any name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=self.leaf)
        return context


class Tls(Section):
    """A chain of certificates in PEM form, the daemon's own first, and its private key."""

    cert_file: Located
    key_file: Located
    min_version: Literal["TLS12", "TLS13"] = "TLS12"

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.read()
        return self

    def read(self) -> Certificate:
        """The files as they are now; raises ValueError that names the key, never its content."""
        state = self.state()
        chain = _bytes(self.cert_file, "cert_file")
        try:
            certificates = load_pem_x509_certificates(chain)
        except ValueError:
            raise ValueError(
                f"cert_file: {self.cert_file} holds no certificate in PEM form"
            ) from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password it would ask for one on the terminal.
            context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        except _Encrypted:
            raise ValueError(
                f"key_file: {self.key_file} is encrypted; give it without a passphrase"
            ) from None
        except ssl.SSLError as error:
            raise ValueError(self._wrong(error)) from None
        except OSError as error:
            raise ValueError(f"key_file: cannot read {self.key_file}: {error.strerror}") from None
        leaf = certificates[0]
        pem = ssl.DER_cert_to_PEM_cert(leaf.public_bytes(Encoding.DER))
        return Certificate(context, leaf.not_valid_after_utc, pem, state)

    def state(self) -> bytes:
        """Differs when a file's content does; raises ValueError if one cannot be read."""
        digest = sha256(_bytes(self.cert_file, "cert_file"))
        digest.update(sha256(_bytes(self.key_file, "key_file")).digest())
        return digest.digest()

    @property
    def exposed(self) -> bool:
        """Whether everybody on the machine may read or change the key."""
        return bool(self.key_file.stat().st_mode & _OTHERS)

    def _wrong(self, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"key_file: {self.key_file} is not the key of the first certificate in cert_file"
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            return f"cert_file: {self.cert_file} is too weak to be accepted"
        return f"key_file: {self.key_file} holds no private key in PEM form"


class _Encrypted(Exception):
    """The key needs a password."""


def _no_password() -> str:
    raise _Encrypted


def _bytes(path: Path, key: str) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # neither raises
        raise ValueError(f"{key}: {path} is no file")
    try:
        return read_bytes(path, _MAX_FILE)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
