"""Grafana's provisioning: data sources that lead to each other, and the folder of dashboards."""

from __future__ import annotations

from typing import Any

from chaos.observe.stores import HOST, LOKI_PORT, TEMPO_PORT

PROMETHEUS, LOKI, TEMPO = "prometheus", "loki", "tempo"
PROMETHEUS_PORT = 9090
DASHBOARDS = "/etc/grafana/dashboards"
#: A dollar is doubled, for provisioning replaces variables of the environment.
TRACE_OF_LINE = "$${__value.raw}"
LINES_OF_TRACE = '{$${__tags}} | trace_id = "$${__trace.traceId}"'


def datasources() -> dict[str, Any]:
    """Prometheus (exemplars lead to traces), Loki (lines do, too), Tempo (spans lead to lines)."""
    return {"apiVersion": 1, "prune": True, "datasources": [_prometheus(), _loki(), _tempo()]}


def _prometheus() -> dict[str, Any]:
    return {
        "name": "Prometheus",
        "type": "prometheus",
        "uid": PROMETHEUS,
        "access": "proxy",
        "url": f"http://{HOST}:{PROMETHEUS_PORT}",
        "isDefault": True,
        "jsonData": {
            "httpMethod": "POST",
            "timeInterval": "$OBSERVE_SCRAPE_INTERVAL",
            "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": TEMPO}],
        },
    }


def _loki() -> dict[str, Any]:
    return {
        "name": "Loki",
        "type": "loki",
        "uid": LOKI,
        "access": "proxy",
        "url": f"http://{HOST}:{LOKI_PORT}",
        "jsonData": {
            "derivedFields": [
                {
                    "name": "Trace",
                    "matcherType": "label",
                    "matcherRegex": "trace_id",
                    "url": TRACE_OF_LINE,
                    "datasourceUid": TEMPO,
                }
            ]
        },
    }


def _tempo() -> dict[str, Any]:
    return {
        "name": "Tempo",
        "type": "tempo",
        "uid": TEMPO,
        "access": "proxy",
        "url": f"http://{HOST}:{TEMPO_PORT}",
        "jsonData": {
            "nodeGraph": {"enabled": True},
            "tracesToLogsV2": {
                "datasourceUid": LOKI,
                "spanStartTimeShift": "-1m",
                "spanEndTimeShift": "1m",
                "tags": [{"key": "service.name", "value": "service_name"}],
                "customQuery": True,
                "query": LINES_OF_TRACE,
            },
        },
    }


def providers() -> dict[str, Any]:
    """Where Grafana reads the dashboards from."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "symphony",
                "folder": "Symphony",
                "folderUid": "symphony",
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "updateIntervalSeconds": 30,
                "options": {"path": DASHBOARDS},
            }
        ],
    }
