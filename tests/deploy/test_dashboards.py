"""The shipped dashboards against Grafana's own schema, as its Foundation SDK has it."""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from deploy.grafana.generator import written
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import panelcfg_config
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.files import DASHBOARDS, DEPLOY, dashboard, panels

# Of annotations the schema knows only what every data source has; these are Prometheus's.
BEYOND = {f"annotations.list[0].{k}" for k in ("step", "tagKeys", "textFormat", "titleFormat")}
UNITS = {value for name, value in vars(units).items() if name[0].isupper()}

pytestmark = pytest.mark.parametrize("name", DASHBOARDS)


@pytest.fixture(autouse=True)
def plugins() -> None:
    register_default_plugins()


def lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """What of ``given`` is not in ``kept``, by its path."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            below = f"{path}.{key}".removeprefix(".")
            if key in kept:
                yield from lost(value, kept[key], below)
            else:
                yield below
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif given != kept:
        yield path


def mistyped(value: object, kind: Any, path: str) -> Iterator[str]:
    """Where a decoded value is not what its declaration says, by its path."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(value, dict) and hasattr(kind, "from_json"):
        value = kind.from_json(value)  # what the SDK left as it was
    if origin in (typing.Union, types.UnionType):
        tried = [list(mistyped(value, one, path)) for one in arguments]
        if all(tried):
            yield from max(tried, key=lambda found: len(found[0].partition(": ")[0]))  # deepest
    elif origin is list and isinstance(value, list):
        for index, item in enumerate(value):
            yield from mistyped(item, arguments[0], f"{path}[{index}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from mistyped(item, arguments[1], f"{path}.{key}")
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        if value not in set(kind):
            yield f"{path}: {value!r}"
    elif kind is float:
        if not isinstance(value, int | float):
            yield f"{path}: {value!r}"
    elif isinstance(kind, type) and not isinstance(value, kind):
        yield f"{path}: {value!r}"
    elif value is not None and type(value).__module__.startswith("grafana_foundation_sdk.models"):
        for name, declared in typing.get_type_hints(type(value)).items():
            yield from mistyped(getattr(value, name), declared, f"{path}.{name}")


def test_what_is_shipped_is_what_the_generator_writes(name: str) -> None:
    path = DASHBOARDS[name]

    assert path.read_text("utf-8") == written()[path], "python -m deploy.grafana.generator"


def test_grafana_knows_every_key(name: str) -> None:
    given = dashboard(name)
    kept = json.loads(json.dumps(Dashboard.from_json(given), cls=JSONEncoder))

    assert set(lost(given, kept)) <= BEYOND


def test_every_value_is_of_its_type(name: str) -> None:
    decoded = Dashboard.from_json(dashboard(name))
    assert list(mistyped(decoded, Dashboard, name)) == []

    broken = dashboard(name)
    panel = next(p for p in broken["panels"] if p["type"] == "stat")
    panel["options"]["colorMode"] = "backgruond"
    assert list(mistyped(Dashboard.from_json(broken), Dashboard, name)) != []


def test_every_panel_is_of_a_known_kind_has_a_unit_and_says_what_it_shows(name: str) -> None:
    page = dashboard(name)

    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])
    for panel in panels(page):
        field = panel["fieldConfig"]
        chosen = [field["defaults"]["unit"]] + [
            one["value"]
            for o in field["overrides"]
            for one in o["properties"]
            if one["id"] == "unit"
        ]
        assert panelcfg_config(panel["type"]) is not None, panel["type"]
        assert set(chosen) <= UNITS, (panel["title"], chosen)
        assert panel["description"].endswith("."), panel["title"]


def test_no_panel_lies_on_another_and_no_place_is_left_in_a_row(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard(name)["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]

    height = max(y for _, y in taken) + 1
    assert set(taken) == {(x, y) for x in range(24) for y in range(height)}


def test_every_query_goes_to_the_data_source_that_was_chosen(name: str) -> None:
    page = dashboard(name)
    variables = page["templating"]["list"]
    asking = [*page["annotations"]["list"], *panels(page)]
    asking += [target for panel in panels(page) for target in panel["targets"]]
    asking += [variable for variable in variables if variable["type"] == "query"]

    assert (variables[0]["type"], variables[0]["name"]) == ("datasource", "datasource")
    assert {json.dumps(one["datasource"]) for one in asking} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }


def test_shares_of_limits_turn_yellow_orange_and_red_at_the_default_thresholds(name: str) -> None:
    if name != "quotas":
        return
    page = dashboard(name)
    chart = next(p for p in panels(page) if p["title"] == "Used share of the limit")
    worst = next(p for p in panels(page) if p["title"] == "Worst quotas")
    (cells,) = [
        one["value"]
        for override in worst["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "thresholds"
    ]

    for levels in (chart["fieldConfig"]["defaults"]["thresholds"], cells):
        assert [step["value"] for step in levels["steps"]] == [None, 0.75, 0.9, 1]


def test_grafana_is_told_to_load_them_from_where_the_environment_says(name: str) -> None:
    folder = DEPLOY / "grafana/provisioning"
    sources = yaml.safe_load((folder / "datasources/quotabell.yml").read_text("utf-8"))
    providers = yaml.safe_load((folder / "dashboards/quotabell.yml").read_text("utf-8"))

    assert sources["apiVersion"] == providers["apiVersion"] == 1
    (source,), (provider,) = sources["datasources"], providers["providers"]
    assert source["type"] == "prometheus"
    assert source["url"] == "${QUOTABELL_PROMETHEUS_URL}"
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "${QUOTABELL_DASHBOARDS}"
    # Grafana takes what it loads from files by their uid, and wants no number of its own there.
    assert dashboard(name)["uid"] == f"quotabell-{name}"
    assert dashboard(name).get("id") is None
    # A data source is chosen by its type; it must not be one that only this file names.
    assert dashboard(name)["templating"]["list"][0]["query"] == source["type"]
