"""What is shipped is the wheel: installed alone, far from the checkout, it must do its work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from quotabell import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daemon" / "quotabell"
# Neither the checkout nor the configuration of whoever runs the tests may be found.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name != "PYTHONPATH" and not name.startswith(("QUOTABELL_", "DATABASE_URL"))
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without the network."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a virtual environment with the wheel and nothing of the checkout.

    The libraries are those of the environment that runs the tests, by a line in a ``.pth``;
    what such a folder's own ``.pth`` files add (the editable install) is not followed.
    """
    home = tmp_path_factory.mktemp("wheel") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    _run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python),
        *("install", "--quiet", "--no-index", "--no-deps", wheel),
    )
    purelib = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(purelib, "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")
    return python.parent


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    run = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_wheel_holds_every_file_of_the_package_and_the_schema(wheel: Path) -> None:
    shipped = {
        f"{prefix}/{path.relative_to(root)}"
        for prefix, root in (("quotabell", PACKAGE), ("quotabell/schema", ROOT / "schema"))
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    held = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("quotabell/")}

    assert held == shipped
    assert any(name.startswith("quotabell/schema/migrations/") for name in held)


def test_the_wheel_carries_the_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert f"quotabell-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_installed_program_tells_its_version(programs: Path, tmp_path: Path) -> None:
    assert _run(programs / "quotabell", "--version", cwd=tmp_path) == f"quotabell {__version__}\n"


def test_the_installed_package_finds_its_own_sql(programs: Path, tmp_path: Path) -> None:
    code = """
import json
from importlib.resources import files
import quotabell
from quotabell.store import queries

print(json.dumps({
    "file": quotabell.__file__,
    "queries": {module: sorted(queries.load(module)) for module in queries.modules()},
    "migrations": sorted(f.name for f in (files("quotabell") / "schema/migrations").iterdir()),
}))
"""
    found = json.loads(_run(programs / "python", "-c", code, cwd=tmp_path))

    assert Path(found["file"]).is_relative_to(programs.parent)
    assert set(found["queries"]) == {path.stem for path in (PACKAGE / "store").glob("*.sql")}
    assert found["migrations"] == sorted(p.name for p in (ROOT / "schema/migrations").iterdir())
    assert found["migrations"]


def test_the_installed_program_checks_a_configuration(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "quotabell.yaml").write_text("listen: 127.0.0.1:3999\n")

    shown = _run(programs / "quotabell", "check-config", "-c", "quotabell.yaml", cwd=tmp_path)

    assert "127.0.0.1:3999" in shown
