"""HTTPS by files, which are replaced while the daemon runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography.x509 import load_der_x509_certificate

from quotabell import log
from quotabell.errors import ConfigError
from quotabell.http import certificates
from quotabell.metrics import Metrics
from tests.http.client import serving
from tests.process.program import quotabell_run
from tests.support import daemon
from tests.support.certificates import Authority, Issued
from tests.support.daemon import DaemonProcess
from tests.support.postgres import Database
from tests.support.waiting import eventually

EXPIRY = "quotabell_tls_certificate_expiry_timestamp_seconds"
SUCCESSFUL = "quotabell_tls_last_reload_successful"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def _files(folder: Path) -> dict[str, str]:
    return {"cert_file": str(folder / "tls.crt"), "key_file": str(folder / "tls.key")}


def _put(folder: Path, issued: Issued) -> None:
    issued.write(folder / "tls.crt", folder / "tls.key")


@pytest.fixture
async def secured(
    database: Database, tmp_path: Path, authority: Authority
) -> AsyncIterator[DaemonProcess]:
    _put(tmp_path, authority.issue("localhost"))
    path = daemon.write_config(tmp_path, database.dsn, tls=_files(tmp_path))
    async with daemon.process(path) as process:
        yield process


class Connection:
    """One connection over TLS, held open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, url: str, trust: ssl.SSLContext) -> Connection:
        port = int(url.rpartition(":")[2])
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=trust))

    @property
    def serial(self) -> int:
        link = self._writer.get_extra_info("ssl_object")
        return load_der_x509_certificate(link.getpeercert(binary_form=True)).serial_number

    async def ask(self) -> bytes:
        self._writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return await self._reader.readuntil(b"healthy.\n")

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def _serial(url: str, trust: ssl.SSLContext) -> int:
    found = await Connection.to(url, trust)
    await found.close()
    return found.serial


async def _gauge(url: str, trust: ssl.SSLContext, name: str) -> float:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/metrics", ssl=trust) as answer:
            found = re.search(rf"^{name} (\S+)$", await answer.text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_a_renewed_certificate_is_for_new_connections_and_a_bad_one_for_none(
    secured: DaemonProcess, authority: Authority, tmp_path: Path
) -> None:
    url, trust = secured.url, authority.trust()
    assert url.startswith("https://")
    old = await Connection.to(url, trust)
    assert b" 200 " in await old.ask()
    renewed = authority.issue("localhost", days=60)

    _put(tmp_path, renewed)
    os.kill(secured.pid, signal.SIGHUP)

    async def taken() -> bool:
        return await _serial(url, trust) == renewed.serial

    assert await eventually(taken)
    assert await _gauge(url, trust, EXPIRY) == renewed.expires.timestamp()
    assert b" 200 " in await old.ask()
    assert old.serial != renewed.serial
    await old.close()

    key = (tmp_path / "tls.key").read_bytes()
    (tmp_path / "tls.crt").write_bytes(authority.issue("localhost").chain)  # without its key
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/-/reload", ssl=trust) as answer:
            assert answer.status == 422
            told = await answer.text()

    assert "key_file" in told
    assert key.splitlines()[1].decode() not in told
    assert await _serial(url, trust) == renewed.serial


async def test_what_renews_certificates_need_not_tell(
    dsn: str, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "CHECK_EVERY", 0.05)
    _put(tmp_path, authority.issue("localhost"))
    config = daemon.configure(tmp_path, dsn, tls=_files(tmp_path))
    trust = authority.trust()
    async with serving(config) as client:
        (tmp_path / "tls.crt").write_text("half a file")

        async def refused() -> bool:
            return await _gauge(client.url, trust, SUCCESSFUL) == 0

        assert await eventually(refused)
        renewed = authority.issue("localhost")
        _put(tmp_path, renewed)

        async def taken() -> bool:
            return await _serial(client.url, trust) == renewed.serial

        assert await eventually(taken)
        assert await _gauge(client.url, trust, SUCCESSFUL) == 1


async def test_old_versions_of_tls_and_plain_http_get_nothing(
    secured: DaemonProcess, authority: Authority
) -> None:
    old = authority.trust()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Connection.to(secured.url, old)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(secured.url.rpartition(":")[2]))
    writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        try:
            told = await reader.read()
        except ConnectionError:
            told = b""
    writer.close()
    assert b"healthy" not in told


async def test_commands_reach_a_daemon_with_tls(
    secured: DaemonProcess, authority: Authority, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(authority.pem)
    port = secured.url.rpartition(":")[2]
    config = tmp_path / "client.yaml"
    config.write_text(secured.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    by_url = ("status", "--url", secured.url)

    for arguments, environment, code in (
        ((*by_url, "--cacert", root), {}, 0),
        (by_url, {"QUOTABELL_CACERT": str(root)}, 0),
        (("status", "--config", config), {}, 0),
        (by_url, {}, 69),
        ((*by_url, "--cacert", tmp_path / "nowhere.pem"), {}, 66),
    ):
        done = await quotabell_run(*arguments, environment=environment, timeout=60)
        assert done.code == code, done.err
        assert "--cacert" in done.err or code == 0


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_a_key_that_others_may_read_is_warned_of(
    mode: int, tmp_path: Path, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that its group may read is how Debian and Kubernetes hand keys to services."""
    _put(tmp_path, authority.issue("localhost"))
    key = tmp_path / "tls.key"
    key.chmod(mode)
    config = daemon.configure(tmp_path, "", tls=_files(tmp_path))
    assert config.tls is not None

    written = log.configure("warning", "logfmt").get_logger()
    certificates.Certificates(config.tls, Metrics(), written)

    told = capfd.readouterr().err
    assert (str(key) in told and "everybody" in told) == (mode == 0o604)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ("no key file", "tls: key_file"),
        ("no certificate", "tls: cert_file"),
        ("another key", "tls: key_file"),
        ("a key with a passphrase", "tls: key_file"),
        ("the key twice", "tls: cert_file"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    wrong: str, key: str, tmp_path: Path, authority: Authority
) -> None:
    issued = authority.issue("localhost")
    _put(tmp_path, issued)
    if wrong == "no key file":
        (tmp_path / "tls.key").unlink()
    elif wrong == "no certificate":
        (tmp_path / "tls.crt").write_text("none")
    elif wrong == "another key":
        (tmp_path / "tls.key").write_bytes(authority.issue("localhost").pem())
    elif wrong == "a key with a passphrase":
        (tmp_path / "tls.key").write_bytes(issued.pem(b"secret"))
    else:
        (tmp_path / "tls.crt").write_bytes(issued.pem())

    with pytest.raises(ConfigError) as refused:
        daemon.configure(tmp_path, "", tls=_files(tmp_path))

    assert str(refused.value).startswith(key)
    assert issued.pem().splitlines()[1].decode() not in str(refused.value)


async def test_a_daemon_does_not_start_with_another_ones_key(
    tmp_path: Path, authority: Authority
) -> None:
    _put(tmp_path, authority.issue("localhost"))
    (tmp_path / "tls.key").write_bytes(authority.issue("localhost").pem())
    done = await quotabell_run(
        "serve", "--config", daemon.write_config(tmp_path, "", tls=_files(tmp_path))
    )

    assert done.code == 78
    assert "tls: key_file" in done.err
