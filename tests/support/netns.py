"""An empty network for a test and all that it starts: nothing but itself can be reached.

Only root can have one; for others the tests run on the network that is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

_NEWNET = 0x40000000  # CLONE_NEWNET
_SET_FLAGS, _SET_ADDRESS, _SET_MTU, _ADD_BRIDGE = 0x8914, 0x8916, 0x8922, 0x89A0  # ioctls: SIOC…
_UP_AND_RUNNING = 0x41
_SHORT = 1000  # bytes a packet: IPv6 takes no interface that carries less than 1,280


@contextlib.contextmanager
def empty_network() -> Iterator[bool]:
    """This thread, its new threads and its children see loopback only; False: not permitted.

    There is an unconnected bridge with an address too: with loopback alone, Chromium takes
    itself for offline. It has no IPv6, whose address would come one or two seconds later: Chromium
    breaks off all that it waits for when the network changes. What listens in the old network
    keeps doing so, and Unix sockets work across both.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEWNET) != 0:
            yield False
            return
        try:
            _bring_up()
            yield True
        finally:
            if libc.setns(before, _NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "the old network is not to be had again")
    finally:
        os.close(before)


def _bring_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP_AND_RUNNING))
        with contextlib.suppress(OSError):  # a kernel without bridges: Chromium's push will skip
            fcntl.ioctl(control, _ADD_BRIDGE, b"quiet0\0")
            address = struct.pack("16sHH4s8x", b"quiet0", socket.AF_INET, 0, b"\x0a\x63\x00\x01")
            fcntl.ioctl(control, _SET_ADDRESS, address)
            fcntl.ioctl(control, _SET_MTU, struct.pack("16si12x", b"quiet0", _SHORT))
            fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14x", b"quiet0", _UP_AND_RUNNING))
