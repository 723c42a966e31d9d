from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from quotabell.channels import guarded
from quotabell.channels.guarded import (
    MAX_ANSWER,
    AddressRefused,
    Resolver,
    fault_of,
    open_session,
    public_socket,
    read_answer,
)
from quotabell.domain.outcome import Fault
from tests.support.network import Canary, FakeResolver
from tests.support.pushservice import Answer, PushService


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with Canary("0.0.0.0") as canary:
        yield canary


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "127.0.0.2", "0.0.0.0", "0", "2130706433", "0x7f000001", "0177.0.0.1",
     "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost", "localhost.",
     "LOCALHOST"],
)  # fmt: skip
async def test_no_spelling_of_this_machine_is_connected_to(canary: Canary, host: str) -> None:
    resolver = Resolver()
    async with open_session(resolver) as session:
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.post(f"http://{host}:{canary.port}/", allow_redirects=False)
    await resolver.close()

    assert canary.connections == 0
    if host in ("127.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "localhost"):
        assert isinstance(caught.value, aiohttp.ClientConnectorError)
        assert isinstance(caught.value.os_error, AddressRefused)


async def test_without_the_guard_the_canary_is_reached(canary: Canary) -> None:
    resolver = FakeResolver([("127.0.0.1", canary.port)])
    async with open_session(resolver, public_only=False) as session:
        for url in (f"http://127.0.0.1:{canary.port}/", "http://fcm.googleapis.com/x"):
            async with session.post(url) as response:
                assert response.status == 204

    assert canary.connections == 2


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "::1", "10.0.0.1", "0.0.0.0"])
async def test_a_name_that_leads_inside_is_not_connected_to(canary: Canary, address: str) -> None:
    resolver = FakeResolver([(address, canary.port), (address, canary.port)])
    async with open_session(resolver) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.post("https://fcm.googleapis.com/x")

    assert fault_of(caught.value) is Fault.ADDRESS_REFUSED
    assert resolver.asked == ["fcm.googleapis.com"]
    assert canary.connections == 0


async def test_the_address_that_was_checked_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guarded, "is_public", lambda address: address == "127.0.0.1")
    async with Canary("127.0.0.1") as public, Canary("127.0.0.2") as private:
        good, bad = ("127.0.0.1", public.port), ("127.0.0.2", private.port)
        resolver = FakeResolver([good], [bad], [bad, good], [good, bad])
        statuses: list[int | str] = []
        async with open_session(resolver) as session:
            assert isinstance(session.connector, aiohttp.TCPConnector)
            for _ in range(8):
                session.connector.clear_dns_cache()
                try:
                    async with session.post("http://rebinding.example/") as response:
                        statuses.append(response.status)
                except aiohttp.ClientConnectorError as error:
                    statuses.append(fault_of(error).value)

    assert statuses == [204, "address_refused", 204, 204] * 2
    assert public.connections == 6
    assert private.connections == 0


def test_a_socket_of_another_family_is_refused() -> None:
    with pytest.raises(AddressRefused):
        public_socket((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("/run/x.sock",)))


async def test_the_environment_names_no_proxy(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Canary("127.0.0.1") as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        resolver = FakeResolver([("127.0.0.1", canary.port)])
        async with open_session(resolver, public_only=False) as session:
            async with session.post("http://push.example.org/x") as response:
                assert response.status == 204

        assert (canary.connections, proxy.connections) == (1, 0)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    resolver = Resolver()
    async with open_session(resolver, public_only=False) as session:
        yield session
    await resolver.close()


async def test_cookies_are_not_kept_and_redirects_stay_where_they_are(
    push: PushService, session: aiohttp.ClientSession
) -> None:
    url = push.subscribe().endpoint
    push.script(Answer(307, {"Set-Cookie": "a=b", "Location": f"{push.origin}/elsewhere"}))
    async with session.post(url, allow_redirects=False) as response:
        assert response.status == 307
    async with session.post(url, allow_redirects=False) as response:
        assert response.status == 400

    assert "cookie" not in push.arrivals[1].headers
    assert "accept-encoding" not in push.arrivals[1].headers
    assert push.followed == []


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("fault", ["endless", "big", "half", "drip"])
async def test_an_answer_is_read_to_a_bound_in_bytes_and_time(
    push: PushService, session: aiohttp.ClientSession, fault: str
) -> None:
    push.script(Answer(429, fault=fault), Answer(201))
    url = push.subscribe().endpoint
    before, began = resident_bytes(), time.monotonic()
    async with session.post(url) as response:
        body = await read_answer(response)
    took, grown = time.monotonic() - began, resident_bytes() - before

    assert response.status == 429
    assert len(body) <= MAX_ANSWER
    assert took < 3.5
    assert grown < 16 << 20
    assert push.sent < 16 << 20
    async with session.post(url) as response:
        assert response.status == 201


async def test_compressed_answers_stay_compressed(
    push: PushService, session: aiohttp.ClientSession
) -> None:
    push.script(Answer(400, {"Content-Encoding": "gzip"}, b"\x1f\x8b not really"))
    async with session.post(push.subscribe().endpoint) as response:
        assert await read_answer(response) == b"\x1f\x8b not really"


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "tls.pem").write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")
    return context


async def test_a_certificate_that_nobody_vouches_for_is_a_tls_fault(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with PushService(tls=self_signed(tmp_path)) as push:
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.post(push.subscribe().endpoint)
        assert push.arrivals == []

    assert fault_of(caught.value) is Fault.TLS


async def test_a_port_without_tls_is_a_tls_fault(
    push: PushService, session: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.ClientError) as caught:
        await session.post(f"https://127.0.0.1:{push.port}/")

    assert fault_of(caught.value) is Fault.TLS


@pytest.mark.parametrize(
    ("fault", "expected"), [("reset", Fault.RESET), ("garbage", Fault.BAD_ANSWER)]
)
async def test_a_broken_answer_has_its_name(
    push: PushService, session: aiohttp.ClientSession, fault: str, expected: Fault
) -> None:
    push.script(Answer(fault=fault))
    with pytest.raises(aiohttp.ClientError) as caught:
        await session.post(push.subscribe().endpoint)

    assert fault_of(caught.value) is expected


async def test_a_name_that_leads_nowhere_is_a_dns_fault() -> None:
    async with open_session(FakeResolver([])) as session:
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.post("https://fcm.googleapis.com/x")

    assert fault_of(caught.value) is Fault.DNS


async def test_a_closed_port_is_a_connect_fault(session: aiohttp.ClientSession) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(aiohttp.ClientError) as caught:
        await session.post(f"http://127.0.0.1:{port}/")

    assert fault_of(caught.value) is Fault.CONNECT


async def test_the_system_resolver_gives_every_address_of_a_name() -> None:
    resolver = Resolver()
    found = await resolver.resolve("localhost", 443)
    with pytest.raises(OSError, match=r"\w"):
        await resolver.resolve("name.invalid", 443)
    await resolver.close()

    assert {"127.0.0.1", "::1"} & {result["host"] for result in found}
    assert {result["port"] for result in found} == {443}
