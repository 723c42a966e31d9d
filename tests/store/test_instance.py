"""One daemon per data directory, and the identity that stays."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from quotabell.errors import DataDirectoryInUse
from quotabell.store.instance import DataDirectoryUnusable, hold
from tests.support.unprivileged import needs_root, nobody, python_environment

HOLDER = """
import sys, time
from pathlib import Path
from quotabell.store.instance import hold
instance = hold(Path(sys.argv[1]))
print(instance.id, flush=True)
sys.stdin.read()
"""

PRIVATE = 0o711 if os.geteuid() == 0 else 0o700


def holder(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)],
        env=python_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_second_daemon_is_refused_by_directory_and_pid(tmp_path: Path) -> None:
    with holder(tmp_path / "data") as first:
        assert first.stdout is not None
        assert len(first.stdout.readline().strip()) == 32

        with pytest.raises(DataDirectoryInUse) as refusal:
            hold(tmp_path / "data")
        first.kill()

    assert str(tmp_path / "data") in str(refusal.value)
    assert f"pid {first.pid}" in str(refusal.value)


def test_two_daemons_in_one_process_cannot_share_a_directory(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(DataDirectoryInUse, match=f"pid {os.getpid()}"):
        hold(tmp_path)


def test_sigkill_of_the_holder_releases_the_directory_and_keeps_its_id(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        assert first.stdout is not None
        identity = first.stdout.readline().strip()
        first.send_signal(signal.SIGKILL)
        first.wait(10)

    with hold(tmp_path) as second:
        assert second.id == identity


def test_the_id_is_kept_by_one_directory_and_differs_between_two(tmp_path: Path) -> None:
    with hold(tmp_path / "a") as a, hold(tmp_path / "b") as b:
        first, other = a.id, b.id
    with hold(tmp_path / "a") as again:
        assert again.id == first
    assert other != first


def test_closing_twice_does_not_release_the_next_holder(tmp_path: Path) -> None:
    first = hold(tmp_path)
    first.close()
    with hold(tmp_path):
        first.close()
        with pytest.raises(DataDirectoryInUse, match=f"pid {os.getpid()}"):
            hold(tmp_path)


def test_a_process_started_by_the_holder_does_not_inherit_the_lock(tmp_path: Path) -> None:
    instance = hold(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        instance.close()
        hold(tmp_path).close()


def test_a_torn_id_is_replaced_by_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("0123", encoding="ascii")
    with hold(tmp_path) as instance:
        assert len(instance.id) == 32
        assert (tmp_path / "instance").read_text(encoding="ascii") == f"{instance.id}\n"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_or_empty_directory_is_private_under_any_umask(tmp_path: Path, umask: int) -> None:
    empty, new = tmp_path / "empty", tmp_path / "deep" / "new"
    empty.mkdir(mode=0o755)
    before = os.umask(umask)
    try:
        hold(empty).close()
        hold(new).close()
    finally:
        os.umask(before)

    for folder in (empty, new):
        assert stat.S_IMODE(folder.stat().st_mode) == PRIVATE
        assert stat.S_IMODE((folder / "instance").stat().st_mode) == 0o600


def test_a_directory_that_holds_other_things_keeps_its_mode(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "somebody's file").touch()
    for _ in range(2):
        hold(shared).close()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_a_path_below_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryUnusable, match=r"file/data cannot be used: Not a directory"):
        hold(tmp_path / "file" / "data")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_a_clear_error_and_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fails)
        with pytest.raises(DataDirectoryUnusable, match=os.strerror(number)) as refusal:
            hold(tmp_path)
    assert str(tmp_path) in str(refusal.value)

    hold(tmp_path).close()


@needs_root
def test_a_directory_of_somebody_else_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    become = f"import os; os.seteuid({nobody().pw_uid})\ninstance ="
    result = subprocess.run(
        [sys.executable, "-c", HOLDER.replace("instance =", become), str(tmp_path)],
        env=python_environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert f"the data directory {tmp_path} cannot be used: Permission denied" in result.stderr
