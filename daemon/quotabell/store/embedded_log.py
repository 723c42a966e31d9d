"""The server's log file, kept short by the daemon.

Postgres' own collector bounds its logs by age only, and it would need a directory that
the server's user may write. So the server appends to a file that the daemon opens.
"""

from __future__ import annotations

import os
from pathlib import Path


class ServerLog:
    """``postgres.log``, and its predecessor ``postgres.log.1``; each at most ``limit`` bytes.

    Lines that the server writes in the instant of the change may be lost.
    """

    def __init__(self, path: Path, limit: int = 8 << 20) -> None:
        self.path = path
        self._previous = path.with_name(f"{path.name}.1")
        self._limit = limit

    def open(self) -> int:
        """A descriptor that appends, for the server. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def shorten(self) -> None:
        """If the file is over the limit, keep its end as the predecessor and empty it.

        It is emptied, not renamed, because the server has it open; it appends, so its next
        line stands at the beginning. Raises OSError; emptied it is then all the same.
        """
        if self.size() <= self._limit:
            return
        try:
            self._previous.unlink(missing_ok=True)
            fd = os.open(self._previous, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as previous:
                previous.write(self._end(self._limit))
        finally:
            os.truncate(self.path, 0)

    def size(self) -> int:
        """In bytes; 0 if there is no file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def said_since(self, offset: int) -> str:
        """The last lines written since the file had ``offset`` bytes, for an error message."""
        text = self._end(min(4096, max(0, self.size() - offset))).decode("utf-8", "replace")
        return "\n".join(text.strip().splitlines()[-6:])

    def _end(self, length: int) -> bytes:
        if length == 0:
            return b""
        with self.path.open("rb") as file:
            file.seek(-min(length, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return file.read(length)
