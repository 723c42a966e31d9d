"""The dashboards as Grafana reads them: `python -m deploy.grafana.generator` writes them.

Two pages of panels say what is shown, `parts` how Grafana wants it said. Standard library only.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana.generator import operations, quotas

FOLDER = Path(__file__).parent.parent / "dashboards"


def written() -> dict[Path, str]:
    """Each file and what belongs into it."""
    pages = {"quotas": quotas.page(), "operations": operations.page()}
    return {
        FOLDER / f"{name}.json": json.dumps(page, indent=2, ensure_ascii=False) + "\n"
        for name, page in pages.items()
    }
