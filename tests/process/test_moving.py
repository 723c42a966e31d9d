"""From the embedded Postgres to one of its own, as deploy/README.md says: nothing is lost."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from tests.process.program import quotabell_run
from tests.support import daemon
from tests.support.postgres import Database
from tests.support.unprivileged import reachable_directory


async def test_a_daemon_moves_from_the_embedded_server_to_another(
    empty_database: Database,
) -> None:
    with reachable_directory() as folder:
        backup = folder / "move.backup"
        before = daemon.write_config(folder, "")
        async with daemon.process(before) as process:
            key = await _asked(process.url, "push/vapid-public-key")
            async with aiohttp.ClientSession(process.url) as session:
                async with session.post(
                    "/api/token-monitor/update", json=daemon.SNAPSHOT | {"tokensUsed": 9100}
                ) as answer:
                    assert answer.status == 200
            # While it runs, and once more when it has ended: the unit's command in either case.
            running = await quotabell_run("backup", "-c", before, folder / "running.backup")
            assert (running.code, running.err) == (0, "")
            used = await _asked(process.url, "token-monitor/usage")
            alerts = await _asked(process.url, "token-monitor/alerts")
            assert await process.end() == 0
        stopped = await quotabell_run("backup", "-c", before, backup)
        assert stopped.code == 0, stopped.err
        assert not (folder / "data/postgres/postmaster.pid").exists()

        environment = {"DATABASE_URL": empty_database.tcp_dsn}
        restored = await quotabell_run("restore", backup, environment=environment)
        assert restored.code == 0, restored.err
        again = await quotabell_run("restore", backup, environment=environment)
        assert again.code == 1
        assert "restore into a new one" in again.err

        after = _named(folder, empty_database.tcp_dsn)
        async with daemon.process(after) as process:
            assert await _asked(process.url, "push/vapid-public-key") == key
            assert await _asked(process.url, "token-monitor/usage") == used
            found = await _asked(process.url, "token-monitor/alerts")
            assert [a["id"] for a in found["items"]] == [a["id"] for a in alerts["items"]]
            assert await process.end() == 0


def _named(folder: Path, url: str) -> Path:
    """The same configuration, with the new database."""
    path = folder / "after.yaml"
    lines = (folder / "quotabell.yaml").read_text().replace("url: ''", f"url: {url}")
    path.write_text(lines)
    return path


async def _asked(url: str, path: str) -> dict[str, list[dict[str, object]]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/{path}") as answer:
        assert answer.status == 200
        found: dict[str, list[dict[str, object]]] = await answer.json()
        return found
