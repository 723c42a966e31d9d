"""The shipped image and Compose file: all that can be told of them without an engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from quotabell import __version__
from quotabell.channels.vapid import VapidKey
from tests.deploy.containers import (
    DOCKER,
    composed,
    copied,
    healthcheck,
    ignored,
    instructions,
    mounted,
    secrets,
)
from tests.deploy.files import DASHBOARDS, PROMETHEUS, RULES
from tests.process.program import quotabell_run
from tests.support import daemon
from tests.support.certificates import Authority
from tests.support.load import steady_port
from tests.support.postgres import Database
from tests.support.prometheus import program

SERVICES = sorted(composed({})["services"])
# The keys of the Compose specification that the file may use, so that none is misspelt.
KEYS = {
    *("build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init"),
    *("networks", "ports", "read_only", "restart", "secrets", "security_opt", "shm_size"),
    *("stop_grace_period", "tmpfs", "volumes"),
}


def test_what_the_image_copies_is_enough_to_build_the_wheel(tmp_path: Path) -> None:
    source, wheels = tmp_path / "src", tmp_path / "wheels"
    source.mkdir()
    copied(source)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", wheels)

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "."], cwd=source, check=True, timeout=120
    )

    (wheel,) = wheels.iterdir()
    assert wheel.name == f"quotabell-{__version__}-py3-none-any.whl"
    assert "quotabell/web/index.html" in zipfile.ZipFile(wheel).namelist()
    assert ignored(".git")
    assert ignored("deploy")


def test_the_image_runs_as_an_ordinary_user_and_says_whether_it_lives() -> None:
    last = [i for i, (name, _) in enumerate(instructions()) if name == "FROM"][-1]
    final = dict(instructions()[last:])

    assert final["USER"] == "10001:10001"
    assert final["ENTRYPOINT"] == '["quotabell"]'
    assert final["CMD"] == '["serve"]'
    assert "HEALTHCHECK" in final


@pytest.mark.parametrize("secure", [False, True])
async def test_the_health_check_tells_a_daemon_from_none(
    database: Database, tmp_path: Path, secure: bool
) -> None:
    port = steady_port()
    python, *arguments = [word.replace(":3001/", f":{port}/") for word in healthcheck()]
    assert python == "python"

    async def healthy() -> bool:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(30):
            return await process.wait() == 0

    files = {"cert_file": tmp_path / "tls.crt", "key_file": tmp_path / "tls.key"}
    Authority().issue("localhost").write(*files.values())
    tls = {"tls": {name: str(path) for name, path in files.items()}} if secure else {}
    config = daemon.configure(tmp_path, database.dsn, listen=f"127.0.0.1:{port}", **tls)
    async with daemon.running(config):
        assert await healthy()
    assert not await healthy()


def test_the_compose_file_holds_together() -> None:
    compose = composed({})
    services = compose["services"]
    used = [secret for service in services.values() for secret in service.get("secrets", [])]
    volumes = [v.split(":")[0] for service in services.values() for v in service.get("volumes", [])]

    for name, service in services.items():
        assert set(service) <= KEYS, name
        assert set(service.get("depends_on", {})) <= set(services)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in services["postgres"]
    named = {s if isinstance(s, str) else s["source"] for s in used}
    assert named == set(compose["secrets"])
    assert {v for v in volumes if v[0] not in "./"} == set(compose["volumes"])
    build = services["quotabell"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKER / "Dockerfile")


@pytest.mark.parametrize("service", SERVICES)
def test_every_file_that_a_container_sees_exists(service: str, tmp_path: Path) -> None:
    secrets(tmp_path / "secrets")
    compose = composed({"QUOTABELL_SECRETS": str(tmp_path / "secrets")})

    mounted(compose, service, tmp_path / "root")

    if service == "grafana":
        etc, environment = (
            tmp_path / "root/etc/grafana",
            compose["services"][service]["environment"],
        )
        assert {path.parent.name for path in (etc / "provisioning").glob("*/*.yml")} == {
            "dashboards",
            "datasources",
        }
        shown = tmp_path / "root" / environment["QUOTABELL_DASHBOARDS"].lstrip("/")
        assert {path.stem for path in shown.iterdir()} == set(DASHBOARDS)
        asked = urlsplit(environment["QUOTABELL_PROMETHEUS_URL"])
        assert asked.hostname == "prometheus"
        assert compose["services"][asked.hostname]["ports"][0].endswith(f":{asked.port}")
    if service == "postgres":
        named = compose["services"][service]["environment"]["POSTGRES_PASSWORD_FILE"]
        assert (tmp_path / "root" / named.lstrip("/")).read_text()


async def test_the_daemon_of_compose_takes_its_configuration(tmp_path: Path) -> None:
    made = secrets(tmp_path / "secrets")
    compose = composed({"QUOTABELL_SECRETS": str(tmp_path / "secrets")})
    mounted(compose, "quotabell", tmp_path)
    text = (tmp_path / "etc/quotabell/quotabell.yaml").read_text("utf-8")
    config = tmp_path / "quotabell.yaml"
    config.write_text(text.replace("/run/secrets", str(tmp_path / "run/secrets")))

    done = await quotabell_run("check-config", "-c", config)

    assert done.code == 0, done.err
    shown = yaml.safe_load(done.out)
    assert shown["listen"] == ":3001"
    assert [token["name"] for token in shown["auth"]["tokens"]] == ["apps", "prometheus", "ops"]
    url = urlsplit(made["database-url"].strip())
    described = compose["services"]["postgres"]["environment"]
    assert (url.username, url.path) == (described["POSTGRES_USER"], f"/{described['POSTGRES_DB']}")
    assert url.password == made["postgres-password"].strip()
    assert url.hostname in SERVICES
    (folder,) = [t.split(":")[0] for t in compose["services"]["quotabell"]["tmpfs"] if "uid" in t]
    assert folder == shown["data_dir"]


def test_prometheus_and_alertmanager_of_compose_take_theirs(tmp_path: Path) -> None:
    secrets(tmp_path / "secrets")
    compose = composed({"QUOTABELL_SECRETS": str(tmp_path / "secrets")})
    for service in ("prometheus", "alertmanager"):
        mounted(compose, service, tmp_path)
    named = [a for a in compose["services"]["prometheus"]["command"] if "config.file" in a]
    config = tmp_path / named[0].partition("=/")[2]
    text = config.read_text("utf-8")
    config.unlink()
    config.write_text(text.replace("/etc/prometheus", str(tmp_path / "etc/prometheus")))

    said = checked("promtool", "check", "config", "--lint-fatal", config)

    assert said.count("rules found") == len(RULES)
    assert checked("amtool", "check-config", tmp_path / "etc/alertmanager/alertmanager.yml")
    # Who is named is there, by its service or another name of it.
    aliases = compose["services"]["quotabell"]["networks"]["default"]["aliases"]
    hosts = yaml.safe_load((PROMETHEUS / "prometheus-replicas.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job for job in hosts["scrape_configs"]}
    assert jobs["quotabell"]["dns_sd_configs"][0]["names"] == aliases
    targets = [
        *jobs["quotabell-usage"]["static_configs"][0]["targets"],
        *hosts["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"],
    ]
    assert {target.partition(":")[0] for target in targets} == {"quotabell", "alertmanager"}


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    made = secrets(folder)

    assert set(made) == set(composed({})["secrets"])
    assert len(set(made.values())) == len(made)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert VapidKey.load(folder / "push-key").public
    (folder / "admin").unlink()
    again = secrets(folder)
    assert {name for name in made if made[name] != again[name]} == {"admin"}


def checked(name: str, *arguments: str | Path) -> str:
    run = subprocess.run([program(name), *arguments], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
