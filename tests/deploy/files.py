"""What `deploy/` ships, read as its users' programs read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
CONFIGURATIONS = sorted(PROMETHEUS.glob("*.yml"))
DASHBOARDS = {path.stem: path for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))}
_NAME = re.compile(r"\bquotabell[_:][a-z0-9_:]+")
_LABEL_OR_TEXT = re.compile(r'"[^"]*"')


def rules() -> Iterator[dict[str, Any]]:
    """Every rule of every group."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerting rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard(name: str) -> dict[str, Any]:
    """One of the dashboards."""
    found: dict[str, Any] = json.loads(DASHBOARDS[name].read_text("utf-8"))
    return found


def panels(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Its panels, without the headings."""
    yield from (panel for panel in page["panels"] if panel["type"] != "row")


def expressions(page: dict[str, Any]) -> Iterator[str]:
    """All that it asks Prometheus."""
    for panel in panels(page):
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in page["annotations"]["list"])
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def names_in(expression: str) -> set[str]:
    """The metrics that an expression reads; a choice between names counts as all of them."""
    chosen = re.findall(r'__name__=~"([^"]*)"', expression)
    plain = _NAME.findall(_LABEL_OR_TEXT.sub('""', expression))
    return {*plain, *(name for names in chosen for name in names.split("|"))}
