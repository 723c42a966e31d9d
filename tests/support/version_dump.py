"""A database as a version of Quotabell leaves it, as one file for psql: tests/dumps/….sql.

``python -m tests.support.version_dump`` writes that of the version in this checkout, which is done
once for a release: tests upgrade every such dump. Data that ages out (events, samples, history)
is in it, but tests can only ask for what is kept for ever.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from quotabell import __version__
from tests.http.client import Client, serving
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.push_browser import Browser
from tests.support.schema_dump import DROPPED, role_block, running_18

DUMPS = Path(__file__).parents[1] / "dumps"
PROVIDER = "dumped"  # of all usage in a dump
SNAPSHOTS = {f"model-{n}": (n * 13, 100) for n in range(8)}  # used, limit: the last one is at 91 %
EVENTS = 12  # of ten input tokens each
THRESHOLD = 77.0


async def fill(database: Database, folder: Path) -> None:
    """Let a daemon migrate the database, and give it some of everything."""
    config = configure(
        folder, database.dsn, quotas=[{"name": "all", "limit": 1000, "window": "day"}]
    )
    async with serving(config) as client:
        await _report(client)
        await _accepted(
            client,
            "/api/token-monitor/thresholds",
            {"provider": PROVIDER, "thresholdPercentage": THRESHOLD},
        )
        key = (await client.get("/api/push/vapid-public-key")).json["publicKey"]
        browser = Browser("https://fcm.googleapis.com/fcm/send/dumped", "dumped", key)
        await _accepted(
            client,
            "/api/push/subscribe",
            {"userId": "alice", "subscription": browser.subscription},
        )


async def _report(client: Client) -> None:
    await _accepted(
        client,
        "/api/token-monitor/update",
        [
            {"provider": PROVIDER, "model": model, "tokensUsed": used, "tokenLimit": limit}
            for model, (used, limit) in SNAPSHOTS.items()
        ],
    )
    now = datetime.now(UTC).isoformat()
    await _accepted(
        client,
        "/api/token-monitor/events",
        [
            {"id": f"e-{n}", "time": now, "provider": PROVIDER, "model": "m", "inputTokens": 10}
            for n in range(EVENTS)
        ],
    )


async def _accepted(client: Client, path: str, body: object) -> None:
    reply = await client.post(path, json=body)
    assert reply.status in (200, 201), (path, reply.status, reply.body)


def dump(database: Database) -> str:
    """A database with its rows, as text for psql and an empty database."""
    text = database.cluster.run(
        "pg_dump", "--no-owner", "--encoding=UTF8", "--dbname", database.dsn
    )
    kept = "\n".join(line for line in text.splitlines() if not DROPPED.fullmatch(line))
    return f"BEGIN;\n\n{role_block()}\n\n{kept.strip()}\n\nCOMMIT;\n"


def main() -> None:
    with running_18() as cluster:
        database = cluster.create_database()
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(fill(database, Path(folder)))
        DUMPS.mkdir(exist_ok=True)
        path = DUMPS / f"{__version__}.sql"
        path.write_text(dump(database), encoding="utf-8")
        print(f"wrote {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
