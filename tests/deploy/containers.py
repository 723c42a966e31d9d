"""The shipped image and its Compose file, as far as they can be read without an engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.files import DEPLOY

ROOT = DEPLOY.parent
DOCKER = DEPLOY / "docker"
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def instructions() -> list[tuple[str, str]]:
    """Those of the Dockerfile, each on one line."""
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def healthcheck() -> list[str]:
    """The command that it runs."""
    (found,) = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
    command: list[str] = json.loads(found.partition("CMD ")[2])
    return command


def copied(folder: Path) -> None:
    """Put into ``folder`` what the Dockerfile copies out of the checkout."""
    for name, rest in instructions():
        if name != "COPY" or rest.startswith("--from"):
            continue
        *sources, target = shlex.split(rest)
        for source in sources:
            assert not ignored(source), source
            found = ROOT / source
            if found.is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(found, folder / target, ignore=skip)
            else:
                shutil.copy(found, folder / target)


def ignored(path: str) -> bool:
    """Whether a file of the checkout's root stays out of the build; the last line decides."""
    out = False
    for line in (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines():
        if line and line[0] != "#" and fnmatch(path, line.lstrip("!")):
            out = line[0] != "!"
    return out


def composed(environment: Mapping[str, str]) -> dict[str, Any]:
    """The Compose file with its variables resolved."""
    text = _VARIABLE.sub(
        lambda found: environment.get(found[1]) or found[2],
        (DOCKER / "compose.yaml").read_text("utf-8"),
    )
    assert "${" not in text
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def secrets(folder: Path) -> dict[str, str]:
    """What `make compose` makes, by name."""
    environment = {"PATH": os.environ["PATH"], "QUOTABELL_SECRETS": str(folder)}
    subprocess.run([DOCKER / "secrets.sh"], env=environment, check=True, timeout=30)
    return {path.name: path.read_text("utf-8") for path in folder.iterdir()}


def mounted(compose: Mapping[str, Any], service: str, root: Path) -> None:
    """Put under ``root`` every file that a service sees, where it sees it."""
    described = compose["services"][service]
    seen = [volume.split(":") for volume in described.get("volumes", [])]
    places = [(DOCKER / source, target) for source, target, *_ in seen if source[0] in "./"]
    for entry in described.get("secrets", []):
        name = entry if isinstance(entry, str) else entry["source"]
        target = f"/run/secrets/{name}" if isinstance(entry, str) else entry["target"]
        places.append((DOCKER / compose["secrets"][name]["file"], target))
    for found, target in places:
        assert found.exists(), f"{service}: {found}"
        placed = root / target.lstrip("/")
        placed.parent.mkdir(parents=True, exist_ok=True)
        placed.symlink_to(found.resolve())
