"""Stand-ins for programs that need what a test has not: an engine of containers, a cluster, the
systemd of root, a package index. Each holds what it is asked for against what is shipped, and
refuses what it does not know; ``main`` ends with 0 only if the command could have worked."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from quotabell import __version__
from tests.deploy.containers import composed, instructions
from tests.deploy.kustomized import KUBERNETES, OVERLAYS, built, identity
from tests.deploy.units import SYSTEMD

ROOT = Path(__file__).resolve().parents[2]


def docker(words: list[str]) -> None:
    """`docker compose -f FILE VERB [SERVICE]` and `docker build -f FILE -t NAME CONTEXT`."""
    if words[:1] == ["build"]:
        _, file_option, dockerfile, name_option, _, context = words
        assert (file_option, name_option) == ("-f", "-t")
        assert (ROOT / dockerfile).samefile(ROOT / "deploy/docker/Dockerfile")
        for name, copied in instructions():
            if name == "COPY" and not copied.startswith("--from"):
                assert all((ROOT / context / s).exists() for s in shlex.split(copied)[:-1]), copied
        return
    _, option, file, verb, *rest = words
    assert words[0] == "compose"
    assert option in ("-f", "--file")
    assert (ROOT / file).is_file(), file
    services = set(composed({})["services"])
    known = {"up": {"--build", "--detach"}, "kill": {"-s", "HUP"}, "pull": set(), "exec": set()}
    known |= {"restart": set(), "logs": {"--follow"}, "down": set()}
    if verb == "exec":
        service, program, *arguments = rest
        assert service in services
        return _inside(service, program, arguments)
    assert {word for word in rest if word not in known[verb]} <= services, rest


def _inside(service: str, program: str, arguments: list[str]) -> None:
    assert (service, program) in {("quotabell", "quotabell"), ("postgres", "psql")}, program
    if program == "quotabell":
        parse(arguments)


def kubectl(words: list[str]) -> None:
    """What creates, applies and restarts; what is named must be among what is shipped."""
    if words[:1] == ["-n"]:
        assert words[1] == "quotabell"
        words = words[2:]
    verb, *rest = words
    names = {identity(one) for overlay in OVERLAYS for one in built(KUBERNETES / overlay)}
    if verb == "apply":
        folder = Path(rest[rest.index("-k") + 1]).resolve()
        assert set(rest) <= {"--server-side", "-k", rest[rest.index("-k") + 1]}
        assert built(folder)
        assert folder.name in OVERLAYS
    elif verb == "create":
        _create(rest)
    elif verb == "rollout":
        what, target = rest[:2]
        assert what in ("restart", "status")
        kind, _, name = target.partition("/")
        assert (kind.capitalize(), name) in names, target
    elif verb == "scale":
        assert ("Deployment", rest[0].partition("/")[2]) in names
        assert rest[1].startswith("--replicas=")
    else:
        raise AssertionError(f"kubectl {verb} is not known")


def _create(rest: list[str]) -> None:
    if rest[0] == "namespace":
        assert rest[1:] == ["quotabell"]
    elif rest[0] == "job":
        cron = rest[2].removeprefix("--from=cronjob/")
        assert ("CronJob", cron) in {identity(one) for one in built(KUBERNETES / "one")}
    else:
        assert rest[:2] == ["secret", "generic"]
        for option in rest[3:]:
            name, _, value = option.partition("=")
            assert name == "--from-file"
            path = Path(value.rpartition("=")[2])
            assert path.read_text().strip(), option


def systemctl(words: list[str]) -> None:
    """A verb and units that are shipped."""
    verb, *rest = words
    assert verb in {"daemon-reload", "enable", "start", "stop", "restart", "reload", "status"}, verb
    for unit in (word for word in rest if word != "--now"):
        name = unit if "." in unit else f"{unit}.service"
        assert (SYSTEMD / name).is_file(), unit


def journalctl(words: list[str]) -> None:
    option, unit, *rest = words
    assert option == "-u"
    assert (SYSTEMD / f"{unit}.service").is_file()
    assert set(rest) <= {"-f", "-e"}


def sudo(words: list[str]) -> None:
    """As the daemon's user; here as whoever runs the tests."""
    assert words[:2] == ["-u", "quotabell"]
    assert "u quotabell " in (SYSTEMD / "quotabell.sysusers").read_text()
    os.execvp(words[2], words[2:])


def pip(words: list[str]) -> None:
    """The installation of a wheel that `make wheel` makes, with extras that there are."""
    assert words[0] == "install"
    (wanted,) = (word for word in words[1:] if word not in ("--upgrade", "--force-reinstall"))
    path, _, extras = wanted.removesuffix("]").partition("[")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    name = f"quotabell-{__version__}-py3-none-any.whl"
    assert Path(path).name in (name, "quotabell"), path
    assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])


def python3(words: list[str]) -> None:
    """`python3 -m venv FOLDER`, with stand-ins in it; anything else is the real one's."""
    if words[:2] != ["-m", "venv"]:
        os.execv(sys.executable, [sys.executable, *words])
    bin = Path(words[2], "bin")
    bin.mkdir(parents=True, exist_ok=True)
    here = Path(os.environ["STANDINS"])
    for name in ("pip", "python", "quotabell"):
        (bin / name).symlink_to(here / name)


def rooted(program: str) -> Callable[[list[str]], None]:
    """The real program, told to look at and to write below the test's folder only."""

    def run(words: list[str]) -> None:
        root = os.environ["DOCS_ROOT"]
        os.execv(f"/usr/bin/{program}", [program, f"--root={root}", *words])

    return run


def make(words: list[str]) -> None:
    """The real one, which only says what it would do."""
    run = subprocess.run(
        ["/usr/bin/make", "-n", "-C", str(ROOT), *words], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def quotabell(words: list[str]) -> None:
    """The real one; `serve` is stopped when it is ready."""
    command = [sys.executable, "-m", "quotabell", *words]
    if words[:1] != ["serve"]:
        os.execv(sys.executable, command)
    log = Path(os.environ["DOCS_ROOT"], "serve.log")
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        until = time.monotonic() + 60
        while "quotabell is ready" not in log.read_text() and time.monotonic() < until:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()


def parse(words: list[str]) -> None:
    """Whether the real one would understand them."""
    from quotabell.cli.entry import parser

    try:
        parser().parse_args(words)
    except SystemExit as end:
        if end.code:
            raise ValueError("these words are not understood") from None


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "docker": docker,
    "kubectl": kubectl,
    "systemctl": systemctl,
    "journalctl": journalctl,
    "sudo": sudo,
    "pip": pip,
    "python": python3,
    "python3": python3,
    "systemd-sysusers": rooted("systemd-sysusers"),
    "systemd-tmpfiles": rooted("systemd-tmpfiles"),
    "make": make,
    "quotabell": quotabell,
}


def main() -> None:
    name, *words = sys.argv[1:]
    try:
        PROGRAMS[name](words)
    except (AssertionError, ValueError, KeyError, OSError) as error:
        raise SystemExit(f"{shlex.join([name, *words])}: {type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
