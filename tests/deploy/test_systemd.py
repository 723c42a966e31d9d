"""The shipped units, as systemd's own checks see them, and the daemon as they start it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from quotabell.config import load
from tests.deploy.units import (
    PROGRAM,
    SERVICES,
    SYSTEMD,
    Manager,
    analyzed,
    prepare,
    seconds,
    settings,
    settle,
    started,
    variables,
)
from tests.support.unprivileged import needs_root, reachable_directory
from tests.support.waiting import eventually

EXPOSURE = 15  # of 100: 1.5 of 10


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_leaves_little_exposed(unit: str) -> None:
    said = analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", SYSTEMD / unit)

    assert said.returncode == 0, said.stdout + said.stderr
    assert "Overall exposure level" in said.stdout


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    for path in SYSTEMD.glob("quotabell*.[st]*[er]"):
        text = path.read_text("utf-8").replace(PROGRAM, "/bin/true")
        (tmp_path / path.name).write_text(text)
    units = sorted(tmp_path.iterdir())

    said = analyzed("verify", "--man=no", *units)

    assert {unit.suffix for unit in units} == {".service", ".timer"}
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_units_and_configuration_name_the_same_files(tmp_path: Path) -> None:
    service, backup = settings("quotabell.service"), settings("quotabell-backup.service")
    settle(tmp_path, tmp_path / "state", tmp_path)
    environment = {**variables(), "CREDENTIALS_DIRECTORY": str(tmp_path)}

    config = load(tmp_path / "quotabell.yaml", environment)
    shipped = yaml.safe_load((SYSTEMD / "quotabell.yaml").read_text("utf-8"))

    assert {token.name for token in config.auth.tokens} == {"apps", "prometheus", "ops"}
    assert shipped["data_dir"] == f"/var/lib/{service['StateDirectory'][0]}"
    for key in ("User", "EnvironmentFile", "LoadCredential", "StateDirectory"):
        assert backup[key] == service[key], key
    # The daemon's pause between two signs of life is a quarter of this; a statement takes 8 s.
    assert seconds(service["WatchdogSec"][0]) >= 120


@needs_root
async def test_the_daemon_works_as_the_unit_starts_it_and_tells_systemd_how_it_is() -> None:
    with reachable_directory() as folder, Manager(folder / "notify") as manager:
        environment = {
            "NOTIFY_SOCKET": str(manager.path),
            "WATCHDOG_USEC": "800000",
            "QUOTABELL_LISTEN": "127.0.0.1:0",
        }
        prepare(folder)
        async with started("quotabell.service", folder, environment) as process:
            log = asyncio.create_task(_read(process))
            await eventually(lambda: manager.heard("READY=1") or process.returncode, 30.0)
            assert process.returncode is None, (await log)[-3000:]
            await eventually(lambda: manager.heard("WATCHDOG=1") >= 3)
            assert manager.heard("READY=1") == 1

            os.kill(process.pid, signal.SIGHUP)
            await eventually(lambda: manager.heard("READY=1") == 2)
            assert manager.heard("RELOADING=1") == 1
            (reload,) = [said for said in manager.said if said.startswith("RELOADING=1")]
            assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reload)

            async with started("quotabell-backup.service", folder, {}) as backup:
                said = await _read(backup)
                assert await backup.wait() == 0, said
            (written,) = (folder / "backups").glob("*.backup")
            assert written.stat().st_mode & 0o777 == 0o600

            # It runs on with what it has.
            (folder / "etc" / "quotabell.yaml").write_text("lissten: nowhere\n")
            os.kill(process.pid, signal.SIGHUP)
            await eventually(lambda: manager.heard("READY=1") == 3)
            assert manager.heard("STOPPING=1") == 0

            os.kill(process.pid, signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await process.wait() == 0
            assert manager.heard("STOPPING=1") == 1
            text = await log

    assert "configuration not reloaded" in text
    assert "error" not in text.replace("configuration not reloaded", "").replace("level=error", "")


async def _read(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.read()).decode()


def test_the_programs_of_the_units_are_where_debian_has_them() -> None:
    for unit in SERVICES:
        for key in ("ExecStart", "ExecReload", "ExecStartPost"):
            for command in settings(unit).get(key, []):
                program = command.split()[0]
                assert program == PROGRAM or shutil.which(program) == program, command
