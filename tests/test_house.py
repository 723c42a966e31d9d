"""The rules of the house, as tests: what a reviewer would otherwise have to look for."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daemon" / "quotabell"
MODULES = sorted(PACKAGE.rglob("*.py"))


# --- imports -------------------------------------------------------------------------------


def test_imports_point_down_only() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [lint_imports, "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "daemon")},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout + run.stderr


# --- state ---------------------------------------------------------------------------------

CONTAINERS = frozenset(
    {"dict", "list", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter"}
)
LIVE_OBJECTS = frozenset(
    {
        *("ClientSession", "Application", "TCPConnector"),
        *("CollectorRegistry", "Gauge", "Histogram", "Summary", "Info"),
        *("Lock", "RLock", "Event", "Condition", "Semaphore", "BoundedSemaphore"),
        *("Queue", "PriorityQueue", "SimpleQueue"),
        *("ThreadPoolExecutor", "WeakKeyDictionary", "WeakValueDictionary", "WeakSet"),
    }
)
MUTATORS = frozenset(
    {
        *("append", "extend", "insert", "remove", "pop", "popitem", "clear", "sort", "reverse"),
        *("add", "discard", "update", "setdefault", "appendleft", "popleft"),
    }
)
DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*|__[a-z]+__")


def module_state(source: str) -> list[str]:
    """What two daemons in one process would share: ``line: reason`` each.

    A table under a constant's name may be a dict, a list or a set as long as its module never
    changes it; a variable may not, and a session, lock or metric may not whatever its name.
    """
    tree = ast.parse(source)
    found = [
        *_globals_declared(tree),
        *(f for name, value in _module_variables(tree) for f in _shared(name, value)),
        *_changes_of_constants(tree),
    ]
    return [f"{line}: {reason}" for line, reason in sorted(found)]


def _module_variables(tree: ast.Module) -> Iterator[tuple[ast.Name, ast.expr]]:
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Assign):
            yield from ((t, node.value) for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
            if isinstance(node.target, ast.Name):
                yield node.target, node.value


def _shared(name: ast.Name, value: ast.expr) -> Iterator[tuple[int, str]]:
    called = _called(value)
    if called in LIVE_OBJECTS:
        yield name.lineno, f"{name.id} is a {called} that every daemon would share"
    elif isinstance(value, DISPLAYS) or called in CONTAINERS:
        if not CONSTANT.fullmatch(name.id):
            yield name.lineno, f"{name.id} is a mutable variable of the module"


def _called(value: ast.expr) -> str | None:
    if not isinstance(value, ast.Call):
        return None
    function = value.func
    if isinstance(function, ast.Subscript):
        function = function.value
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None


def _globals_declared(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"assigns the global {', '.join(node.names)}"


def _changes_of_constants(tree: ast.Module) -> Iterator[tuple[int, str]]:
    constants = {name.id for name, _ in _module_variables(tree)}
    for node in ast.walk(tree):
        changed: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            changed = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in MUTATORS:
                changed = node.func.value
        if isinstance(changed, ast.Name) and changed.id in constants:
            yield changed.lineno, f"changes {changed.id}, which belongs to the module"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_keeps_state(path: Path) -> None:
    assert module_state(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "seen = {}",
        "seen: list[str] = []",
        "if True:\n    seen = set()",
        "try:\n    pass\nexcept OSError:\n    seen = [1]",
        "seen = {name: 1 for name in 'ab'}",
        "seen = collections.defaultdict(list)",
        "seen = deque[int]()",
        "SESSION = aiohttp.ClientSession()",
        "LOCK = asyncio.Lock()",
        "REQUESTS = Gauge('requests', 'Requests.')",
        "def f():\n    global count\n    count = 1",
        "TABLE = {}\ndef f():\n    TABLE['a'] = 1",
        "TABLE = []\ndef f():\n    TABLE.append(1)",
        "TABLE = {}\nTABLE.update(a=1)",
    ],
)
def test_state_of_a_module_is_found(source: str) -> None:
    assert module_state(source) != []


@pytest.mark.parametrize(
    "source",
    [
        "KINDS = {'input': 1}",
        "_KINDS: Final = ['a']",
        "__all__ = ['load']",
        "names = ('a', 'b')",
        "names = frozenset({'a'})",
        "def f():\n    found = {}\n    found['a'] = 1\n    return found",
        "class A:\n    def __init__(self):\n        self.seen = {}",
        "log = structlog.get_logger()",
    ],
)
def test_constants_and_locals_are_no_state_of_a_module(source: str) -> None:
    assert module_state(source) == []


# --- files ---------------------------------------------------------------------------------

MADE = frozenset(
    {
        ".git",
        ".venv",
        ".venv-clients",
        ".run",
        ".hypothesis",
        "dist",
        "build",
        "__pycache__",
        "node_modules",
    }
)


def _files() -> list[Path]:
    """The files of the repository, committed or about to be; outside git, of the tree."""
    git = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if git.returncode == 0:
        paths = [ROOT / name for name in git.stdout.split("\0") if name]
    else:
        paths = list(_walk(ROOT))
    return sorted(path for path in paths if path.is_file())


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in MADE and not f.endswith("_cache")]
        yield from (Path(folder, name) for name in names)


# Written in pieces, so that this file does not hold what it looks for.
ADDRESSES = re.compile(
    r"pypi\.(?:org|python)|python"
    r"hosted\.org|deb\.debian|registry\.npm"
    r"js|--(?:extra-)?index"
    r"-url|--find"
    r"-links|--trusted"
    r"-host|(?<![\w.~])/(?:work/|root/|tmp/x\b|opt/(?:wheels|pypi))"
)


def test_no_file_names_a_package_index_or_a_place_on_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in _files()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        for match in ADDRESSES.finditer(line)
    ]

    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "--" + "extra-index-url x",
        "--" + "find-links=x",
        "https://files.python" + "hosted.org/packages",
        "cd /" + "work/main",
        'open("/' + 'root/.config")',
        "/tmp/" + "x/v/bin/python",
    ],
)
def test_an_index_or_a_place_is_found(line: str) -> None:
    assert ADDRESSES.search(line)


def test_every_sql_file_has_its_module() -> None:
    orphans = [p for p in PACKAGE.rglob("*.sql") if not p.with_suffix(".py").is_file()]

    assert orphans == []
    assert list(PACKAGE.rglob("*.sql")), "no .sql found: look where they went"


def test_no_file_of_the_daemon_has_400_lines() -> None:
    kinds = {".py", ".sql", ".js", ".css", ".html"}
    long = {
        str(path.relative_to(ROOT)): lines
        for path in PACKAGE.rglob("*")
        if path.suffix in kinds and (lines := path.read_text("utf-8").count("\n")) >= 400
    }

    assert long == {}


# --- make ----------------------------------------------------------------------------------


def test_make_help_tells_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([A-Za-z][\w./-]*):(?!=)", makefile, re.MULTILINE)

    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert targets
    assert targets == re.findall(r"^make (\S+) +\S", listed.stdout, re.MULTILINE)
