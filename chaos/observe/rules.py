"""Rule files of Prometheus, for one time scale each."""

from __future__ import annotations

from typing import Any

from chaos.observe.alert import Alert
from chaos.observe.alerts import GROUPS
from chaos.observe.recording import RECORDINGS
from chaos.observe.scale import Scale, duration
from chaos.observe.text import as_yaml

RUNBOOK = "RUNBOOK.md"
RECORDING_FILE = "recording.yml"
ALERT_FILE = "alerts.yml"


def rule_files(scale: Scale) -> dict[str, str]:
    """Name and content of each rule file."""
    comment = f"Time scale {scale.factor}: windows and `for` divided by it, names nominal."
    return {
        RECORDING_FILE: as_yaml({"groups": [_recorded(scale)]}, comment),
        ALERT_FILE: as_yaml(
            {"groups": [_group(name, alerts, scale) for name, alerts in GROUPS.items()]}, comment
        ),
    }


def _recorded(scale: Scale) -> dict[str, Any]:
    rules = [{"record": one.name, "expr": one.expression(scale)} for one in RECORDINGS]
    return {"name": "recorded", "rules": rules}


def _group(name: str, alerts: tuple[Alert, ...], scale: Scale) -> dict[str, Any]:
    return {"name": name, "rules": [rule(alert, scale) for alert in alerts]}


def rule(alert: Alert, scale: Scale) -> dict[str, Any]:
    """The alert as Prometheus reads it."""
    made: dict[str, Any] = {"alert": alert.name, "expr": alert.expression(scale)}
    if alert.for_s:
        made["for"] = duration(alert.hold_s(scale))
    return {**made, "labels": labels_of(alert), "annotations": texts_of(alert)}


def labels_of(alert: Alert) -> dict[str, str]:
    """What the rule adds to the labels that the expression leaves."""
    labels: dict[str, str] = {"severity": alert.severity, "area": alert.area}
    return labels | {"symptom": "true"} if alert.symptom else labels


def texts_of(alert: Alert) -> dict[str, str]:
    """The texts of an alert, with their templates."""
    return {
        "summary": alert.summary,
        "description": alert.description,
        "runbook": f"{RUNBOOK}#{alert.runbook}",
    }
