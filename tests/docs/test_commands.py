"""Every command of the documentation is run, or held against what is shipped by a stand-in.

A section that shows commands and is not in ``SESSIONS`` fails a test; a command that is new in a
section that is there is run with the others. What has a stand-in, and why: ``standins.py``.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
import yaml

from quotabell.config import load
from quotabell.store.backup import back_up
from tests.deploy.files import DEPLOY
from tests.docs import standins
from tests.docs.reading import PAGES, ROOT, Block, Example, blocks, examples, spans
from tests.docs.shell import Shell
from tests.support import daemon
from tests.support.load import steady_port
from tests.support.postgres import Database, connected
from tests.support.prometheus import program
from tests.support.unprivileged import reachable_directory

SHELL = ("", "console", "sh")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
TOKEN = "a-token-of-the-documentation-test"


@dataclass(frozen=True, slots=True)
class Session:
    """How the commands of a section are run. ``by``: the test that does it instead."""

    needs: Literal["nothing", "backup", "daemon", "token"] = "nothing"
    cwd: str = ""  # of a copy of the checkout's deploy/, or the test's folder
    by: str = ""


SESSIONS = {
    ("README.md", ""): Session(),
    ("README.md", "Five minutes"): Session("daemon"),
    ("README.md", "Configuration"): Session(),
    ("README.md", "Commands"): Session(by="tests/process/test_readme.py"),
    ("README.md", "What programs send already"): Session("token"),
    ("README.md", "Prometheus and Grafana"): Session(),
    ("README.md", "Coming from the original"): Session(),
    ("deploy/README.md", "systemd"): Session("daemon", cwd="deploy"),
    ("deploy/README.md", "Docker Compose"): Session(cwd="deploy/.."),
    ("deploy/README.md", "Kubernetes"): Session(cwd="deploy"),
    ("deploy/README.md", "Prometheus"): Session(cwd="deploy/prometheus"),
    ("deploy/README.md", "Backups"): Session("backup", cwd="deploy"),
    ("deploy/README.md", "Upgrading"): Session("backup", cwd="deploy"),
    ("deploy/README.md", "Changing keys and passwords"): Session(cwd="deploy"),
    ("deploy/README.md", "Growing"): Session("backup", cwd="deploy"),
    ("deploy/README.md", "Grafana"): Session(cwd="deploy/.."),
}
# What the text only speaks of.
NAMED = {"kubectl apply", "kubectl kustomize", "kubectl rollout restart"}
NAMED |= {"systemctl start", "systemctl reload"}
PROGRAMS = {*standins.PROGRAMS, "promtool", "amtool", "psql", "curl", "select", "systemd-analyze"}


def shown(page: str, section: str, languages: tuple[str, ...]) -> list[Block]:
    return [b for b in blocks(page) if b.section == section and b.language in languages]


def every(*languages: str) -> list[Block]:
    return [b for page in PAGES for b in blocks(page) if b.language in languages]


def name(block: Block) -> str:
    return block.where


def test_every_section_with_commands_has_a_session_and_every_block_a_language() -> None:
    found = {(b.page, b.section) for b in every(*SHELL)}

    assert found == set(SESSIONS)
    assert {b.language for page in PAGES for b in blocks(page)} <= {
        *SHELL,
        *("yaml", "sql", "python", "ts"),
    }


@pytest.mark.parametrize(
    ("page", "section"), [key for key, session in SESSIONS.items() if not session.by]
)
async def test_the_commands_of_a_section_work_one_after_the_other(
    page: str, section: str, database: Database, empty_database: Database
) -> None:
    session = SESSIONS[page, section]
    with reachable_directory() as folder:
        async with shell(session, database, empty_database, folder) as opened:
            for block in shown(page, section, SHELL):
                for example in examples(block):
                    await _runs_as_shown(opened, block, example)


async def _runs_as_shown(opened: Shell, block: Block, example: Example) -> None:
    """What is told of alerts and sums comes moments after the report, so it is asked for again."""
    for _ in range(20):
        code, out, err = await opened.one(_now(example.command))
        assert code == 0, (block.where, example.command, out, err)
        if example.said is None:
            return
        if re.fullmatch(_pattern(example.said), out.strip(), re.DOTALL):
            return
        await asyncio.sleep(0.5)
    pytest.fail(f"{block.where}: {example.command}: {out}")


@asynccontextmanager
async def shell(
    session: Session, database: Database, empty: Database, folder: Path
) -> AsyncIterator[Shell]:
    """A shell as a section's reader has it, with the places that the text names."""
    port = steady_port()
    for made in (
        "etc/prometheus",
        "etc/quotabell",
        "etc/systemd/system",
        "checkout",
        "var/backups/quotabell",
    ):
        (folder / made).mkdir(parents=True)
    shutil.copytree(DEPLOY, folder / "checkout/deploy")
    for shipped in (DEPLOY / "prometheus").glob("prometheus.yml"):
        text = shipped.read_text("utf-8").replace("/etc/", f"{folder}/etc/")
        (folder / "etc/prometheus/prometheus.yml").write_text(text)
        (folder / "etc/prometheus/quotabell.token").write_text(TOKEN)
    (folder / "quotabell.yaml").write_text(f"data_dir: {folder}/data\nlisten: 127.0.0.1:0\n")
    places = {
        "localhost:3001": f"127.0.0.1:{port}",
        "127.0.0.1:3001": f"127.0.0.1:{port}",
        "<token>": TOKEN,
        ".venv/bin/": "",
        "postgresql://user:password@host/db": empty.tcp_dsn,
        "postgresql://quotabell:PASSWORD@postgres.example.com/quotabell": empty.tcp_dsn,
        " deploy/": f" {folder}/checkout/deploy/",
    }
    cwd = folder / "checkout" / session.cwd if session.cwd else folder
    environment = {"QUOTABELL_LISTEN": "127.0.0.1:0"}
    if session.needs == "backup":
        await _installed(folder, database)
    if session.needs in ("nothing", "backup"):
        yield Shell(folder, cwd, places, environment)
        return
    more = {}
    if session.needs == "token":
        more["auth"] = {"tokens": [{"name": "apps", "token": TOKEN, "scopes": ["admin"]}]}
    config = daemon.write_config(folder, database.dsn, listen=f"127.0.0.1:{port}", **more)
    async with daemon.running(load(config, {})):
        yield Shell(folder, cwd, places, environment)


async def _installed(folder: Path, database: Database) -> None:
    """What the section of systemd leaves behind, and a backup of a database in use."""
    for made in ("opt/quotabell/bin", "var/lib/quotabell", "var/tmp"):
        (folder / made).mkdir(parents=True)
    for program_ in ("pip", "quotabell"):
        (folder / "opt/quotabell/bin" / program_).symlink_to(folder / "standins" / program_)
    (folder / "var/lib/quotabell/vapid.pem").write_text("a key")
    for path in (DEPLOY / "systemd").iterdir():
        for place in ("etc/systemd/system", "etc/quotabell"):
            (folder / place).mkdir(exist_ok=True)
            shutil.copy(path, folder / place)
    path = folder / "var/backups/quotabell/20261122T031700Z.backup"
    await back_up(database.tcp_dsn, path, lambda table, done, of: None)


def test_what_is_run_elsewhere_is_run_there() -> None:
    for session in SESSIONS.values():
        assert not session.by or (ROOT / session.by).is_file()


def test_a_command_that_cannot_work_is_found(tmp_path: Path) -> None:
    for wrong in (
        "kubectl apply --server-side -k deploy/kubernetes/base2",
        "kubectl delete namespace quotabell",
        "systemctl restart quotabel",
        "docker compose -f deploy/docker/compose.yaml kill -s HUP quotabel",
        "make nothing",
    ):
        program_, *words = shlex.split(wrong)
        with pytest.raises((AssertionError, OSError, KeyError)):
            standins.PROGRAMS[program_](words)


def commands_in_text() -> list[tuple[str, str]]:
    found = {(page, text) for page in PAGES for _, text in spans(page) if len(text.split()) > 1}
    return sorted(
        (page, text) for page, text in found if text.split()[0].rpartition("/")[2] in PROGRAMS
    )


def test_a_command_within_text_would_be_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    for page, text in commands_in_text():
        monkeypatch.chdir(DEPLOY if page.startswith("deploy/") else ROOT)
        plain = text.replace("COMMAND", "status").replace("…", "x").replace("ID", "1")
        first, *words = shlex.split(re.sub(r"\[(-.*?)\]", r"\1", plain))
        first = first.rpartition("/")[2]

        if first == "quotabell" and not {"--help", "--version"} & set(words):
            # A name alone only mentions the command.
            standins.parse(words if len(words) > 1 and words[1] != "--verify" else [words[0], "-h"])
        elif first in ("python", "python3"):
            assert (ROOT / words[1].replace(".", "/")).exists(), text
        elif " ".join([first, *words]) in NAMED:
            continue  # the name of one
        elif first in standins.PROGRAMS and first != "quotabell":
            standins.PROGRAMS[first](words)


async def test_sql_within_text_is_understood_by_the_database(database: Database) -> None:
    async with connected(database.admin_dsn) as connection:
        for _, text in commands_in_text():
            if text.startswith("select "):
                await connection.prepare(text.replace("(pid)", "(1)"))


@pytest.mark.parametrize("block", every("yaml"), ids=name)
def test_a_piece_of_configuration_is_taken(block: Block, tmp_path: Path) -> None:
    """By Prometheus or by the daemon, whose it is."""
    said = yaml.safe_load(block.text)
    if "scrape_configs" in said:
        (tmp_path / "prometheus.yml").write_text(block.text)
        subprocess.run(
            [program("promtool"), "check", "config", tmp_path / "prometheus.yml"],
            check=True,
            capture_output=True,
        )
        return
    text = block.text.replace("/run/secrets", str(tmp_path))
    for path in re.findall(rf"{tmp_path}/[\w-]+", text):
        content = f"{Path(path).name}-of-the-documentation-test".ljust(40, "x")
        if path.endswith("hook"):
            content = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwdGhlLWV4YW1wbGU="
        Path(path).write_text("json://host/" if path.endswith("chat-url") else content)
    (tmp_path / "quotabell.yaml").write_text(text)

    load(tmp_path / "quotabell.yaml", {})


@pytest.mark.parametrize("block", every("sql"), ids=name)
async def test_sql_is_understood_by_the_database(block: Block, database: Database) -> None:
    async with connected(database.admin_dsn) as connection:
        for statement in filter(str.strip, block.text.split(";")):
            await connection.prepare(statement)


@pytest.mark.parametrize("block", every("python", "ts"), ids=name)
async def test_a_program_reports_usage(block: Block, database: Database, tmp_path: Path) -> None:
    session = SESSIONS["README.md", "What programs send already"]
    interpreter, text = "python3 -c", block.text
    if block.language == "ts":
        interpreter = "node --input-type=module -e"
        text = f"globalThis.Deno = {{ env: {{ get: (name) => process.env[name] }} }};\n{text}"
    if not shutil.which(interpreter.split()[0]):
        pytest.skip("node is not installed")
    async with shell(session, database, database, tmp_path) as opened:
        (settings,) = (
            example
            for shell_block in shown("README.md", block.section, SHELL)
            for example in examples(shell_block)
            if example.command.startswith("export QUOTABELL_URL")
        )
        await opened.one(settings.command)
        code, out, err = await opened.one(_now(f"{interpreter} {shlex.quote(text)}"))

    assert code == 0, (out, err)
    async with connected(database.dsn) as connection:
        assert await connection.fetchval("select count(*) from usage_events") == 1


def _now(command: str) -> str:
    """With the present time for the example's, which will be too old one day."""
    return TIME.sub(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), command)


def _pattern(said: str) -> str:
    """A … stands for anything, a time for any time."""
    return re.escape(TIME.sub("…", said)).replace("…", ".*")
