"""constraints.txt is what is installed: it must cover pyproject.toml, and name no bare version."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


FILES = {"own": ROOT / "constraints.txt", "clients": ROOT / "tests/clients/constraints.txt"}


def _pins(which: str) -> dict[str, tuple[str, int]]:
    """Of each package in a file of pins the version and the number of hashes."""
    text = FILES[which].read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    entries = [re.fullmatch(r"(\S+?)==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})*)", x) for x in lines]
    assert all(entries), "a line that is no pin"
    return {e[1]: (e[2], e[3].count("--hash")) for e in entries if e}


def _required(which: str) -> Iterator[Requirement]:
    pyproject: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    if which == "clients":
        yield from map(Requirement, pyproject["dependency-groups"]["clients"])
        return
    for listed in (
        pyproject["build-system"]["requires"],
        pyproject["project"]["dependencies"],
        *pyproject["project"]["optional-dependencies"].values(),
        pyproject["dependency-groups"]["dev"],
    ):
        yield from map(Requirement, listed)


@pytest.mark.parametrize("which", FILES)
def test_every_requirement_is_locked_to_a_version_it_allows(which: str) -> None:
    pins = _pins(which)
    wrong = []
    for requirement in _required(which):
        version, _ = pins.get(canonicalize_name(requirement.name), ("", 0))
        if not version or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(str(requirement))

    assert wrong == [], "run scripts/lock"


@pytest.mark.parametrize("which", FILES)
def test_every_pin_has_hashes(which: str) -> None:
    assert [name for name, (_, hashes) in _pins(which).items() if hashes == 0] == []
