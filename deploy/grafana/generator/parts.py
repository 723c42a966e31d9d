"""Panels, variables and dashboards in Grafana's JSON, as far as they are used here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA = 39  # of Grafana 10.4; newer ones migrate it when they load it
WIDTH = 24  # columns of Grafana's grid

USAGE = (("green", None), ("yellow", 0.75), ("orange", 0.9), ("red", 1))
GOOD = (("red", None), ("green", 1))
ANY_IS_BAD = (("green", None), ("red", 1))
NEUTRAL = (("blue", None),)
Steps = Sequence[tuple[str, float | None]]


class Query(NamedTuple):
    """An expression and the legend of its series."""

    expr: str
    legend: str = "__auto"


class Row(NamedTuple):
    """Panels side by side, equally wide; ``title``: of a heading above them."""

    height: int
    panels: Sequence[Json]
    title: str = ""


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[Json], rows: Sequence[Row]
) -> Json:
    """A dashboard that refreshes itself; every panel asks the data source of the variable."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["quotabell"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "refresh": "30s",
        "templating": {"list": [_datasource(), *variables]},
        "annotations": {"list": []},
        "panels": _placed(rows),
    }


def _placed(rows: Sequence[Row]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for row in rows:
        if row.title:
            at = {"h": 1, "w": WIDTH, "x": 0, "y": y}
            heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
            placed.append(heading | {"id": len(placed) + 1, "gridPos": at})
            y += 1
        width = WIDTH // len(row.panels)
        for place, panel in enumerate(row.panels):
            at = {"h": row.height, "w": width, "x": place * width, "y": y}
            placed.append({"id": len(placed) + 1, **panel, "gridPos": at})
        y += row.height
    return placed


# --- variables -----------------------------------------------------------------------------


def _datasource() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "options": [],
    }


def choice(name: str, label: str, query: str, *, regex: str = "") -> Json:
    """A variable of several values, all of them at first; ``regex``: which are offered."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"values-of-{name}"},
        "regex": regex,
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def annotation(name: str, expr: str, *, title: str, text: str, tags: str) -> Json:
    """Regions in every chart where the expression is above 0."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": expr,
        "step": "60s",
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": tags,
    }


# --- panels --------------------------------------------------------------------------------


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    steps: Steps = NEUTRAL,
    empty: str = "",
    words: dict[str, str] | None = None,
) -> Json:
    """One number; ``empty``: what stands there without one, ``words``: for some numbers."""
    field = _field(unit, steps) | ({"noValue": empty} if empty else {})
    if words:
        texts = {value: {"text": text} for value, text in words.items()}
        field["mappings"] = [{"type": "value", "options": texts}]
    options = {
        "reduceOptions": _last(),
        "colorMode": "background" if steps is not NEUTRAL else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": True,
    }
    queries = _queries([Query(expr)], instant=True)
    return _panel("stat", title, description, queries, field, options)


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps = NEUTRAL,
    stacked: bool = False,
    maximum: float | None = None,
    colors: Mapping[str, str] | None = None,
) -> Json:
    """Series over time, with the levels of ``steps`` as dashed lines; ``colors``: of series by
    their names."""
    field = _field(unit, steps)
    field |= {"min": 0} | ({"max": maximum} if maximum is not None else {})
    field["color"] = {"mode": "palette-classic"}
    field["custom"] = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if len(steps) > 1 else "off"},
    }
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    panel = _panel("timeseries", title, description, _queries(queries), field, options)
    panel["fieldConfig"]["overrides"] = [_colored(*item) for item in (colors or {}).items()]
    return panel


def _colored(name: str, color: str) -> Json:
    value = {"mode": "fixed", "fixedColor": color}
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": value}],
    }


def signed(panel: Json) -> Json:
    """The same chart without its floor at 0."""
    field = panel["fieldConfig"]["defaults"]
    return panel | {
        "fieldConfig": {
            "defaults": {key: value for key, value in field.items() if key != "min"},
            "overrides": [],
        }
    }


def bars(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "short",
    steps: Steps = NEUTRAL,
    maximum: float | None = None,
) -> Json:
    """One bar a series, of now."""
    field = _field(unit, steps) | {"min": 0} | ({"max": maximum} if maximum is not None else {})
    options = {
        "reduceOptions": _last(),
        "orientation": "horizontal",
        "displayMode": "gradient",
        "valueMode": "color",
        "showUnfilled": True,
        "minVizWidth": 8,
        "minVizHeight": 16,
        "namePlacement": "auto",
        "sizing": "auto",
    }
    queries = _queries([query], instant=True)
    return _panel("bargauge", title, description, queries, field, options)


def timeline(title: str, description: str, query: Query, *, unit: str, steps: Steps) -> Json:
    """When each series had which value."""
    field = _field(unit, steps)
    field["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    options = {
        "showValue": "auto",
        "rowHeight": 0.8,
        "mergeValues": True,
        "alignValue": "left",
        "legend": {
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": False,
            "calcs": [],
        },
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return _panel("state-timeline", title, description, _queries([query]), field, options)


class Column(NamedTuple):
    """A column of numbers."""

    name: str
    expr: str
    unit: str = "short"
    steps: Steps = ()  # with some: a gauge in the cell


def table(
    title: str, description: str, labels: dict[str, str], columns: Sequence[Column], sort: str
) -> Json:
    """A row for each set of labels (by name, with their headings), worst by ``sort`` first."""
    queries = _queries([Query(column.expr) for column in columns], instant=True, form="table")
    values = {f"Value #{q['refId']}": c.name for q, c in zip(queries, columns, strict=True)}
    order = [*labels, *values]
    panel = _panel(
        "table",
        title,
        description,
        queries,
        _field("short", NEUTRAL) | {"custom": {"align": "auto", "filterable": True}},
        {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": True}],
            "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
        },
    )
    panel["fieldConfig"]["overrides"] = [_cells(column) for column in columns]
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate(order)},
                "renameByName": labels | values,
            },
        },
    ]
    return panel


def _cells(column: Column) -> Json:
    properties: list[Json] = [{"id": "unit", "value": column.unit}]
    if column.steps:
        properties += [
            {"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "gradient"}},
            {"id": "thresholds", "value": _thresholds(column.steps)},
            {"id": "color", "value": {"mode": "thresholds"}},
            {"id": "min", "value": 0},
            {"id": "max", "value": 1},
        ]
    return {"matcher": {"id": "byName", "options": column.name}, "properties": properties}


def _panel(
    kind: str, title: str, description: str, queries: list[Json], field: Json, options: Json
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": queries,
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": options,
    }


def _queries(
    queries: Sequence[Query], *, instant: bool = False, form: str = "time_series"
) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + place),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": instant,
            "range": not instant,
            "format": form,
            "editorMode": "code",
        }
        for place, query in enumerate(queries)
    ]


def _last() -> Json:
    return {"calcs": ["lastNotNull"], "fields": "", "values": False}


def _field(unit: str, steps: Steps) -> Json:
    return {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": _thresholds(steps)}


def _thresholds(steps: Steps) -> Json:
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for color, value in steps],
    }
