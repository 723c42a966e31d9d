"""What every answer of every push service leads to: the real channel, deliverer and database.

Each answer comes from an origin of its own, so that none suffers from another's.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from quotabell.channels.vapid import Keyring, VapidSigner
from quotabell.channels.webpush import WebPushChannel
from quotabell.domain.endpoints import EndpointRules
from quotabell.service.push import WebPushSender
from tests.service.station import KEY, station
from tests.support.outbox import Outbox, outbox
from tests.support.push_browser import Browser
from tests.support.pushservice import Answer, PushService
from tests.support.waiting import eventually

BACKOFF = 1000.0  # seconds, of this test
NAMED = 2000  # seconds, by Retry-After
HOSTS = {
    "Mozilla": "updates.push.services.mozilla.com",
    "FCM": "fcm.googleapis.com",
    "Apple": "web.push.apple.com",
    "WNS": "wns2-by3p.notify.windows.com",
}
MISMATCH = b'{"reason":"VapidPkHashMismatch"}'
BUSY = b'{"reason":"TooManyRequests"}'
DATE = "as a date"  # filled in when the test runs
BLOCKED = {"X-WNS-ERROR-DESCRIPTION": "Domain Blocked"}

ANSWERS = {
    "200": [Answer(200)],
    "201": [Answer(201)],
    "202": [Answer(202)],
    "301": [Answer(301, {"Location": "/elsewhere"})],
    "307": [Answer(307, {"Location": "/elsewhere"})],
    "400": [Answer(400)],
    "400 key mismatch": [Answer(400, body=MISMATCH)],
    "401, 201": [Answer(401)],
    "401, 401": [Answer(401)] * 2,
    "403, 201": [Answer(403)],
    "403, 403": [Answer(403)] * 2,
    "404": [Answer(404)],
    "406": [Answer(406)],
    "410": [Answer(410)],
    "410 blocked": [Answer(410, BLOCKED)],
    "413, 201": [Answer(413)],
    "413, 413": [Answer(413)] * 2,
    "429": [Answer(429)],
    "429 seconds": [Answer(429, {"Retry-After": str(NAMED)})],
    "429 date": [Answer(429, {"Retry-After": DATE})],
    "429 device": [Answer(429, body=BUSY)],
    "500": [Answer(500)],
    "502 errno 901": [Answer(502, body=b'{"errno":901}')],
    "503": [Answer(503)],
    "503 seconds": [Answer(503, {"Retry-After": str(NAMED)})],
    "503 errno 201": [Answer(503, body=b'{"errno":201}')],
    "503 errno 202": [Answer(503, body=b'{"errno":202}')],
    "503 202 twice": [Answer(503, body=b'{"errno":202}')] * 2,
    "timeout": [Answer(fault="hang")],
    "reset": [Answer(fault="reset")],
    "DNS": [],
    "TLS": [],
}

# sent, failed; marked: the subscription says why; gone: the subscription ends; retry: after the
# backoff, or as long as was named, or an hour; ×2: requests; free: counts as no try; pause: of the
# origin. "": as at the left.
TABLE = """
answer            | Mozilla                | FCM | Apple             | WNS
200               | sent                   |     |                   |
201               | sent                   |     |                   |
202               | sent                   |     |                   |
301               | failed                 |     |                   |
307               | failed                 |     |                   |
400               | failed                 |     |                   |
400 key mismatch  | failed marked          |     |                   |
401, 201          | sent ×2                |     |                   |
401, 401          | retry ×2               |     |                   |
403, 201          | sent ×2                |     |                   |
403, 403          | retry ×2               |     |                   |
404               | gone                   |     |                   |
406               | failed                 |     |                   | retry free pause
410               | gone                   |     |                   |
410 blocked       | retry hour free pause  |     |                   |
413, 201          | sent ×2                |     |                   |
413, 413          | failed ×2              |     |                   |
429               | retry free pause       |     |                   |
429 seconds       | retry named free pause |     |                   |
429 date          | retry named free pause |     |                   |
429 device        | retry free             |     |                   |
500               | retry                  |     |                   |
502 errno 901     | retry                  |     |                   |
503               | retry                  |     |                   |
503 seconds       | retry named pause      |     |                   |
503 errno 201     | retry                  |     |                   |
503 errno 202     | sent ×2                |     |                   |
503 202 twice     | retry ×2               |     |                   |
timeout           | retry                  |     |                   |
reset             | retry                  |     |                   |
DNS               | retry ×0               |     |                   |
TLS               | retry ×0               |     |                   |
"""


def expected() -> dict[tuple[str, str], str]:
    head, *lines = [[c.strip() for c in line.split("|")] for line in TABLE.strip().splitlines()]
    table = {}
    for answer, *cells in lines:
        before = ""
        for service, cell in zip(head[1:], cells, strict=True):
            before = table[answer, service] = cell or before
    return table


@dataclass
class Loopback(AbstractResolver):
    """Every name leads here, but those that are asked for with a port that has none."""

    nameless: set[int] = field(default_factory=set)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if port in self.nameless:
            raise OSError(errno.ENOENT, "no such name")
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


@dataclass
class Case:
    push: PushService
    origin: str
    browser: Browser


@pytest.fixture
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


def dated(answer: Answer) -> Answer:
    if answer.headers.get("Retry-After") != DATE:
        return answer
    at = formatdate(time.time() + NAMED, usegmt=True)
    return replace(answer, headers=answer.headers | {"Retry-After": at})


async def case(push: PushService, box: Outbox, answer: str, service: str) -> Case:
    """A browser whose push service gives that answer, then 201."""
    push.host = HOSTS[service]
    origin = push.origin if answer != "TLS" else push.origin.replace("http", "https")
    browser = push.subscribe(KEY.public)
    push.script(*map(dated, ANSWERS[answer]))
    endpoint = browser.endpoint.replace(push.origin, origin)
    await box.subscribe("alice", browser.subscription | {"endpoint": endpoint}, key=KEY.id)
    return Case(push, origin, browser)


async def test_every_answer_of_every_service_leads_to_what_the_table_says(
    dsn: str, box: Outbox
) -> None:
    table = expected()
    assert {answer for answer, _ in table} == ANSWERS.keys()
    ring = Keyring([VapidSigner(KEY, "mailto:ops@example.com")])
    names = Loopback()
    async with contextlib.AsyncExitStack() as stack:
        cases = {}
        for answer, service in table:
            push = await stack.enter_async_context(PushService())
            cases[answer, service] = await case(push, box, answer, service)
            if answer == "DNS":
                names.nameless.add(push.port)
        origins = tuple(case.origin for case in cases.values())
        channel = await stack.enter_async_context(
            WebPushChannel(EndpointRules((), origins), ring, resolver=names)
        )
        await box.announce("alice")
        async with station(
            dsn,
            {"webpush": WebPushSender(channel)},
            backoff=lambda tries, asked: max(BACKOFF, asked or 0.0),
        ):
            await eventually(lambda: settled(box), timeout=30)
        found = {key: await became(box, case) for key, case in cases.items()}

        assert {k: f"{v} for {table[k]}" for k, v in found.items() if v != table[k]} == {}
        assert [c.push.followed for c in cases.values() if c.push.followed] == []
        assert [p for c in cases.values() for p in c.push.problems] == []
    assert await box.books(enqueued=len(table)) == []


async def settled(box: Outbox) -> bool:
    """Whether each was tried once and all that follows from it is written."""
    return bool(
        await box.value(
            "select not exists (select from deliveries where tries = 0 or status = 'leased') "
            "and exists (select from deliveries) and 4 * 2 = (select count(*) "
            "from push_subscriptions where not is_active) "
            "and 4 = (select count(*) from push_subscriptions where reason = 'key_mismatch')"
        )
    )


async def became(box: Outbox, case: Case) -> str:
    [row] = await box.rows(
        "select d.status, d.counted, d.origin, s.is_active, s.reason, "
        "s.subscription::text as stored, "
        "extract(epoch from d.due - a.ended_at)::float8 as delay, exists ("
        "select from delivery_pauses p where p.origin = d.origin) as paused "
        "from deliveries d join push_subscriptions s on s.id = d.target::uuid "
        "join attempts a on a.delivery_id = d.id where d.origin = $1",
        case.origin,
    )
    assert re.search(case.browser.token, row["stored"])
    words = ["retry" if row["status"] == "pending" else row["status"]]
    if not row["is_active"]:
        assert (words, row["reason"]) == (["failed"], "gone")
        words = ["gone"]
    elif row["reason"]:
        assert row["reason"] == "key_mismatch"
        words.append("marked")
    if words == ["retry"]:
        lengths = {BACKOFF: "", NAMED: "named", 3600.0: "hour"}
        near = [word for length, word in lengths.items() if abs(row["delay"] - length) < 100]
        words += near or [f"{row['delay']:.0f} s"]
    if (requests := len(case.push.arrivals)) != 1:
        words.append(f"×{requests}")
    if not row["counted"]:
        words.append("free")
    if row["paused"]:
        words.append("pause")
    return " ".join(filter(None, words))
