"""Rules and dashboards as Kubernetes wants them: `python -m deploy.kubernetes.generator` writes
them out of ../prometheus/rules and ../grafana/dashboards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

BASE = Path(__file__).parent.parent / "base"
DEPLOY = BASE.parent.parent
_HEAD = "# Written by deploy/kubernetes/generator out of {}; edit that, not this.\n"


def written() -> dict[Path, str]:
    """Each file and what belongs into it."""
    return {
        BASE / "rules.yaml": _HEAD.format("deploy/prometheus/rules") + _dumped(_rules()),
        BASE / "dashboards.yaml": _HEAD.format("deploy/grafana/dashboards") + _dumped(_pages()),
    }


def _rules() -> dict[str, Any]:
    files = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
    groups = [g for path in files for g in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _metadata("quotabell"),
        "spec": {"groups": groups},
    }


def _pages() -> dict[str, Any]:
    """With the label by which the sidecar of Grafana's chart finds dashboards."""
    files = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata("quotabell-dashboards", grafana_dashboard="1"),
        "data": {f"quotabell-{path.name}": _compact(path) for path in files},
    }


def _compact(path: Path) -> str:
    """A third of its size: `kubectl apply` keeps a second copy, and 256 KiB is all there is."""
    page = json.loads(path.read_text("utf-8"))
    return json.dumps(page, ensure_ascii=False, separators=(",", ":")) + "\n"


def _metadata(name: str, **labels: str) -> dict[str, Any]:
    return {"name": name, "labels": {"app.kubernetes.io/name": "quotabell", **labels}}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _dumped(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
