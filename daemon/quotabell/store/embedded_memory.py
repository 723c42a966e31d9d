"""How much memory the embedded server may take: a part of what there is for its process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MIB = 1 << 20
_STEP = 16  # MiB: a kernel that keeps a little more for itself changes no setting
_LEAST, _MOST = 32, 1024  # MiB

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def shared_buffers(memory: int | None = None) -> int:
    """MiB of shared buffers: an eighth of ``memory`` (bytes, by default that of this process).

    At least 32, with which a machine of 256 MiB starts; at most 1,024.
    """
    part = (usable_memory() if memory is None else memory) // 8 // _MIB
    return max(_LEAST, min(part // _STEP * _STEP, _MOST))


def usable_memory(groups: Path = _CONTROL_GROUPS, own: str | None = None) -> int:
    """Bytes of memory that this process can have: the machine's, or less where a control group
    around it is limited, as those of containers and units are.

    ``own``: the text of ``/proc/self/cgroup``, see cgroups(7).
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if own is None:
        own = _text(Path("/proc/self/cgroup"))
    return min((machine, *_limits(groups, own)))


def _limits(groups: Path, own: str) -> Iterator[int]:
    for line in own.splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator or controllers not in ("", "memory"):
            continue
        root = groups / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        # In a container the path may be the host's, and its own group is the root.
        steps = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(steps) + 1):
            found = _text(root.joinpath(*steps[:depth], name)).strip()
            if found.isascii() and found.isdecimal() and int(found) > 0:
                yield int(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
