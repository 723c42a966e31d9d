"""How much of a machine's memory the embedded server takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quotabell.store.embedded_memory import shared_buffers, usable_memory

MIB = 1 << 20
MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("memory", "buffers"),
    [
        (100 * MIB, 32),
        (480 * MIB, 48),  # of 512, some is the kernel's
        (512 * MIB, 64),
        (2048 * MIB, 256),
        (8192 * MIB, 1024),
        (65536 * MIB, 1024),
    ],
)
def test_an_eighth_of_memory_is_shared_buffers_within_bounds(memory: int, buffers: int) -> None:
    assert shared_buffers(memory) == buffers


@pytest.mark.parametrize(
    ("own", "file", "text", "memory"),
    [
        ("0::/\n", "memory.max", "268435456\n", 256 * MIB),
        ("0::/system.slice/quotabell.service\n", "system.slice/memory.max", "1048576", MIB),
        ("0::/docker/of-the-host\n", "memory.max", "268435456\n", 256 * MIB),
        ("4:memory:/a/b\n", "memory/a/b/memory.limit_in_bytes", "268435456", 256 * MIB),
        ("4:memory:/a\n", "memory/memory.limit_in_bytes", "9223372036854771712", MACHINE),
        ("0::/\n", "memory.max", "max\n", MACHINE),
        ("3:cpu:/\n", "cpu/memory.max", "1048576\n", MACHINE),
        ("nothing that is understood\n", "memory.max", "1048576\n", MACHINE),
    ],
)
def test_the_narrowest_control_group_around_a_process_counts(
    tmp_path: Path, own: str, file: str, text: str, memory: int
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)

    assert usable_memory(tmp_path, own) == memory
