"""A clock that drills set: of a Postgres server and of daemons, by libfaketime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.drills.leaders import faketime


@dataclass(slots=True)
class Clock:
    """Shown to every program that has its ``environment``; time spans stay as they are.

    ``file`` says how far ahead it is, and has to be readable by all of them.
    """

    file: Path
    ahead: timedelta = timedelta()

    @property
    def environment(self) -> dict[str, str]:
        library = faketime()
        assert library is not None, "the package faketime is not installed"
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def set(self, at: datetime) -> None:
        """It is ``at``, and goes on from there."""
        self.ahead = at - datetime.now(UTC)
        new = self.file.with_suffix(".new")
        new.write_text(f"{self.ahead.total_seconds():+.6f}s\n")
        new.chmod(0o644)
        os.replace(new, self.file)
