"""JSON columns that others may have written."""

from __future__ import annotations

import json
from typing import Any


def decoded(text: str) -> Any:
    """The value; None for what Postgres takes and Python does not (depth, digits of a number)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
