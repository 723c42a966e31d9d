"""Google's push service on loopback, as a stock Chromium and a sender see it.

Chromium is led here by switches of its own. The endpoint that a page gets is compiled into it:
a host of HOSTS, which a sender has to resolve to here, with the certificate trusted.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import secrets
import ssl
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.support import mcs
from tests.support.autopush import DELIVERED, Autopush, Channel, Message

HOSTS = ("jmt17.google.com", "fcm.googleapis.com")  # of Debian's Chromium, and of Google's Chrome


class Certificate:
    """Self-signed, for loopback and the names of the service."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "push on loopback")])
        now = datetime.datetime.now(datetime.UTC)
        names = [*map(x509.DNSName, HOSTS), x509.IPAddress(IPv4Address("127.0.0.1"))]
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.pem = made.public_bytes(Encoding.PEM)
        self.key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.spki = base64.b64encode(hashlib.sha256(public).digest()).decode()

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "both.pem")
            path.write_bytes(self.pem + self.key)
            context.load_cert_chain(path)
        return context


class GoogleService(Autopush):
    """The book-keeping, the sender's side and the faults of `Autopush`; another way to the
    browser. ``sender_port`` is where a sender finds HOSTS, ``trust`` what it verifies them with."""

    def __init__(self) -> None:
        super().__init__()
        self._streams: dict[str, mcs.Stream] = {}
        certificate = Certificate()
        self._tls, self._spki = certificate.server(), certificate.spki
        self.trust = ssl.create_default_context(cadata=certificate.pem.decode())
        self.sender_port = 0

    @property
    def origin(self) -> str:
        return f"https://{HOSTS[0]}"

    def switches(self) -> list[str]:
        """What leads a Chromium here."""
        return [
            f"--gcm-checkin-url=http://{self.host}:{self.port}/checkin",
            f"--gcm-registration-url=http://{self.host}:{self.port}/register",
            f"--gcm-mcs-endpoint=https://{self.host}:{self._mcs_port}",
            f"--ignore-certificate-errors-spki-list={self._spki}",
        ]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 16)
        app.router.add_post("/checkin", self._checkin)
        app.router.add_post("/register", self._registered)
        app.router.add_post("/fcm/send/{token}", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0).start()
        await web.TCPSite(self._runner, self.host, 0, ssl_context=self._tls).start()
        self.port, self.sender_port = (address[1] for address in self._runner.addresses)
        self._listener = await asyncio.start_server(self._serve, self.host, 0, ssl=self._tls)
        self._mcs_port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for stream in list(self._streams.values()):
            stream.close()
        await self._runner.cleanup()

    # --- the browser's side ---

    async def _checkin(self, request: web.Request) -> web.Response:
        known = mcs.decode(await request.read()).get(2, [0])[0]
        device = known if isinstance(known, int) and known else secrets.randbits(62) | 1
        self._agents.setdefault(str(device), {})
        now = mcs.encode((1, 1), (3, int(time.time() * 1000)))
        body = now + mcs.fixed64(7, device) + mcs.fixed64(8, secrets.randbits(62) | 1)
        return web.Response(body=body, content_type="application/x-protobuf")

    async def _registered(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        app = form.get("X-subtype") or form["app"]
        channels = self._agents.setdefault(form["device"], {})
        if form.get("delete") == "true":
            if ended := channels.pop(app, None):
                ended.gone = True
            await self._tell()
            return web.Response(text=f"token={form.get('gcm_registration_id', app)}")
        sender = form["sender"]
        channel = channels.get(app)
        if channel is None or channel.key != sender or channel.gone:
            channel = channels[app] = Channel(app, form["device"], sender)
            self._tokens[channel.token] = channel
        await self._tell()
        return web.Response(text=f"token={channel.token}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream, device = mcs.Stream(reader, writer), ""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                assert await stream.version() == mcs.VERSION
                while True:
                    tag, fields = await stream.read()
                    if tag == mcs.LOGIN:
                        device = mcs.text(fields, 3)
                        await self._login(stream, device, fields)
                    elif tag == mcs.PING:
                        await stream.write(mcs.ACK, mcs.encode((2, 0)))
                    elif tag == mcs.IQ:
                        self._acked(device, mcs.acknowledged(fields))
                    elif tag == mcs.CLOSE:
                        return
                    await self._tell()
        finally:
            if self._streams.get(device) is stream:
                del self._streams[device]
            stream.close()

    async def _login(self, stream: mcs.Stream, device: str, fields: mcs.Fields) -> None:
        self._acked(device, [one.decode() for one in fields.get(10, ()) if isinstance(one, bytes)])
        body = mcs.encode((1, mcs.text(fields, 1)), (8, int(time.time() * 1000)))
        await stream.write(mcs.LOGGED_IN, body)
        self._streams[device] = stream
        for channel in self._agents.setdefault(device, {}).values():
            for message in channel.waiting:
                await self._forward(channel, message)

    def _acked(self, device: str, ids: list[str]) -> None:
        self.acks |= dict.fromkeys(ids, DELIVERED)
        for channel in self._agents.get(device, {}).values():
            channel.waiting = [m for m in channel.waiting if m.id not in ids]

    def _endpoint(self, channel: Channel) -> str:
        return f"{self.origin}/fcm/send/{channel.token}"

    async def _forward(self, channel: Channel, message: Message) -> None:
        stream = self._streams.get(channel.agent)
        if stream is None:
            return
        now = int(time.time() * 1000)
        names = [("subtype", channel.id), ("content-encoding", "aes128gcm")]
        entries = [(7, mcs.encode((1, name), (2, value))) for name, value in names]
        head = [(2, message.id), (3, channel.key or ""), (5, "org.chromium.linux"), *entries]
        tail = [(9, message.id), (10, stream.sent + 1), (16, 0), (17, message.ttl), (18, now)]
        body = mcs.encode(*head, *tail, (21, message.body), (24, 1))
        await stream.write(mcs.DATA, body)
