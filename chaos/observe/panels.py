"""Dashboards as data, and the JSON that Grafana reads.

A panel says what it shows, why one looks at it, in which unit, and where green ends; everything
else (sizes, colours, legends) is the same for all of them and stands here once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

Kind = Literal["timeseries", "stat", "logs"]

SCHEMA_VERSION = 42
WIDTH = 24
UID_PREFIX = "symphony-"
RATE = "$__rate_interval"
"""At least four scrapes, whatever the time scale: the data source knows how often is scraped."""
GREY = "#808080"
METRICS_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NO_DATA = "no data"
UNKNOWN = {
    "type": "special",
    "options": {"match": "null+nan", "result": {"text": NO_DATA, "color": GREY, "index": 0}},
}
"""Without it Grafana gives what has no value the colour of the lowest threshold: green."""
LOGS_SOURCE = {"type": "loki", "uid": "${logs}"}


class Query(NamedTuple):
    """One expression and how its series are called; `{{label}}` in a legend is its value."""

    expression: str
    legend: str = ""


class Limit(NamedTuple):
    """From `value` on, a series is red; `below` turns it round."""

    value: float
    below: bool = False


class Panel(NamedTuple):
    """One panel. `unit` is Grafana's name of it; `width` is of 24; `exemplars` lead to traces."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    limit: Limit | None = None
    width: int = 8
    stacked: bool = False
    exemplars: bool = False


class Row(NamedTuple):
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Panel]


class Variable(NamedTuple):
    """A choice above the panels: the values of `label` of `metric`."""

    name: str
    metric: str
    label: str

    @property
    def query(self) -> str:
        """What Grafana asks for."""
        return f"label_values({self.metric}, {self.label})"


class Annotation(NamedTuple):
    """Marks on the time axis while an expression yields something."""

    name: str
    expression: str
    title: str
    colour: str


class Dashboard(NamedTuple):
    """A page of panels; its file and uid come from `name`."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()

    @property
    def uid(self) -> str:
        """Its stable name within Grafana."""
        return UID_PREFIX + self.name

    def panels(self) -> Iterator[Panel]:
        """Every panel."""
        for row in self.rows:
            yield from row.panels


ROLE = Variable("role", "symphony_worker_info", "role")
ANNOTATIONS = (
    Annotation("Faults", "max by (fault) (symphony_fault_active) > 0", "{{fault}}", "red"),
    Annotation("GameDay", "max by (phase) (symphony_gameday_phase) == 1", "{{phase}}", "purple"),
)


def as_json(dashboard: Dashboard) -> str:
    """The dashboard as Grafana's file provisioning reads it."""
    content = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["symphony"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_annotation(one) for one in ANNOTATIONS]},
        "links": [_link_to_the_others()],
        "templating": {"list": _variables(dashboard)},
        "panels": _placed(dashboard),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _link_to_the_others() -> dict[str, Any]:
    return {
        "title": "Symphony",
        "type": "dashboards",
        "tags": ["symphony"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _annotation(one: Annotation) -> dict[str, Any]:
    return {
        "name": one.name,
        "enable": True,
        "iconColor": one.colour,
        "datasource": METRICS_SOURCE,
        "expr": one.expression,
        "titleFormat": one.title,
        "step": "10s",
        "target": {"refId": "Anno", "expr": one.expression, "interval": "10s"},
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    made = [_source("datasource", "Metrics", "prometheus")]
    if any(panel.kind == "logs" for panel in dashboard.panels()):
        made.append(_source("logs", "Logs", "loki"))
    return made + [
        {
            "name": one.name,
            "label": one.name.capitalize(),
            "type": "query",
            "datasource": METRICS_SOURCE,
            "definition": one.query,
            "query": {"query": one.query, "refId": one.name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }
        for one in dashboard.variables
    ]


def _source(name: str, label: str, kind: str) -> dict[str, Any]:
    return {"name": name, "label": label, "type": "datasource", "query": kind, "refresh": 1}


def _placed(dashboard: Dashboard) -> list[dict[str, Any]]:
    """Rows and panels from left to right, from top to bottom."""
    placed: list[dict[str, Any]] = []
    y = 0
    for row in dashboard.rows:
        where = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append({"id": len(placed) + 1, **heading, "gridPos": where})
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            tall = 4 if panel.kind == "stat" else 8
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            where = {"h": tall, "w": panel.width, "x": x, "y": y}
            placed.append({"id": len(placed) + 1, **_panel(panel), "gridPos": where})
            x, height = x + panel.width, max(height, tall)
        y += height
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    """A stat asks for this moment only: of a range, it would show the last value that there was."""
    source = LOGS_SOURCE if panel.kind == "logs" else METRICS_SOURCE
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": source,
                "expr": query.expression,
                "legendFormat": query.legend,
                **({"exemplar": True} if panel.exemplars else {}),
                **({"instant": True, "range": False} if panel.kind == "stat" else {}),
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _field(panel: Panel) -> dict[str, Any]:
    made: dict[str, Any] = {"unit": panel.unit, "noValue": NO_DATA}
    if panel.kind == "logs":
        return made
    if panel.kind == "stat":
        made["mappings"] = [UNKNOWN]
    made["color"] = {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"}
    made["thresholds"] = {"mode": "absolute", "steps": _steps(panel.limit)}
    if panel.kind == "timeseries":
        made["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 25 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "line" if panel.limit else "off"},
        }
    return made


def _steps(limit: Limit | None) -> list[dict[str, Any]]:
    first, then = ("red", "green") if limit and limit.below else ("green", "red")
    steps: list[dict[str, Any]] = [{"color": first, "value": None}]
    return [*steps, {"color": then, "value": limit.value}] if limit else steps


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "logs":
        return {"showTime": True, "wrapLogMessage": True, "sortOrder": "Descending"}
    if panel.kind == "stat":
        calculation = {"calcs": ["last"], "fields": "", "values": False}
        return {"reduceOptions": calculation, "colorMode": "background", "graphMode": "none"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
