"""``python -m tests.drills.hurried serve …``: a daemon whose hours are short.

What it does once a minute it does several times a second, for drills in which a day takes one.
"""

from __future__ import annotations

import sys

from quotabell.cli import main
from quotabell.service import retention, sample, series
from quotabell.store import database

SHORT = 0.2  # seconds

if __name__ == "__main__":
    database._PROBE_UP = SHORT / 4
    retention.ARCHIVE_EVERY = SHORT
    series.EVERY = SHORT
    defaults = sample.Sampler.__init__.__kwdefaults__
    assert defaults is not None
    defaults["every"] = SHORT
    sys.exit(main())
