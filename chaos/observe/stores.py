"""Configuration of the collector and of the stores of logs and traces: everything on 127.0.0.1.

One collector takes spans from the workers (OTLP) and reads their logs from the lab's files; Loki
keeps the logs, Tempo the traces. Loki's labels are few and bounded; what identifies a line (trace,
order) is structured metadata.
"""

from __future__ import annotations

from typing import Any

HOST = "127.0.0.1"
LOKI_PORT = 3100
TEMPO_PORT = 3200
TEMPO_OTLP_PORT = 14317
OTLP_GRPC_PORT = 4317
OTLP_HTTP_PORT = 4318
COLLECTOR_HEALTH_PORT = 13133
SERVICE = "chaos-symphony"
"""`service.name` of the workers' spans and, from here, of their logs."""
RETENTION = "72h"
"""Of lines, spans and samples."""

KEPT_FIELDS = (
    "event", "logger", "message", "incarnation", "correlation_id", "order_id", "event_id",
    "error_class",
)  # fmt: skip
"""Fields of a log line that become structured metadata; the line itself is kept whole."""
LOG_FILES = "/var/log/symphony/*.log"


def collector() -> dict[str, Any]:
    """The OpenTelemetry Collector (contrib): OTLP and log files in, Loki and Tempo out."""
    return {
        "extensions": {"health_check": {"endpoint": f"{HOST}:{COLLECTOR_HEALTH_PORT}"}},
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"{HOST}:{OTLP_GRPC_PORT}"},
                    "http": {"endpoint": f"{HOST}:{OTLP_HTTP_PORT}"},
                }
            },
            "file_log": {
                "include": [LOG_FILES],
                "include_file_name": False,
                "start_at": "end",
                "operators": _log_operators(),
            },
        },
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_mib": 256, "spike_limit_mib": 64},
            "batch": {"timeout": "1s"},
        },
        "exporters": {
            "otlp_http/loki": {"endpoint": f"http://{HOST}:{LOKI_PORT}/otlp"},
            "otlp_grpc/tempo": {
                "endpoint": f"{HOST}:{TEMPO_OTLP_PORT}",
                "tls": {"insecure": True},
            },
        },
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"logs": {"level": "warn"}, "metrics": {"level": "none"}},
            "pipelines": {
                "traces": _pipeline(["otlp"], "otlp_grpc/tempo"),
                "logs": _pipeline(["otlp", "file_log"], "otlp_http/loki"),
            },
        },
    }


def _pipeline(receivers: list[str], exporter: str) -> dict[str, list[str]]:
    return {
        "receivers": receivers,
        "processors": ["memory_limiter", "batch"],
        "exporters": [exporter],
    }


def _log_operators() -> list[dict[str, Any]]:
    """A line of JSON becomes a record with time, severity and trace; any other line stays as it is.

    A worker's name is the instance, its role a label of Loki; everything else is metadata.
    """
    parsed = "attributes.event != nil"
    return [
        {
            "type": "json_parser",
            "if": 'body matches "^[{].*[}]$"',
            "parse_from": "body",
            "parse_to": "attributes",
            "timestamp": {
                "parse_from": "attributes.ts",
                "layout_type": "gotime",
                "layout": "2006-01-02T15:04:05.000Z",
            },
            "severity": {
                "parse_from": "attributes.level",
                "overwrite_text": True,
                "mapping": {"warn": "warning", "fatal": "critical"},
            },
            "trace": {
                "trace_id": {"parse_from": "attributes.trace_id"},
                "span_id": {"parse_from": "attributes.span_id"},
            },
        },
        {"type": "add", "field": 'resource["service.name"]', "value": SERVICE},
        *(
            {
                "type": "move",
                "if": f"attributes.{field} != nil",
                "from": f"attributes.{field}",
                "to": to,
            }
            for field, to in (
                ("worker", 'resource["service.instance.id"]'),
                ("role", 'resource["symphony.role"]'),
            )
        ),
        {
            "type": "retain",
            "if": parsed,
            "fields": [f"attributes.{field}" for field in KEPT_FIELDS],
        },
    ]


def loki() -> dict[str, Any]:
    """Loki as one process with its files below /loki."""
    return {
        "auth_enabled": False,
        "analytics": {"reporting_enabled": False},
        "server": {
            "http_listen_address": HOST,
            "http_listen_port": LOKI_PORT,
            "grpc_listen_address": HOST,
            "grpc_listen_port": 9095,
            "log_level": "warn",
        },
        "common": {
            "instance_addr": HOST,
            "path_prefix": "/loki",
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {
                "filesystem": {"chunks_directory": "/loki/chunks", "rules_directory": "/loki/rules"}
            },
        },
        "schema_config": {
            "configs": [
                {
                    "from": "2024-04-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        "compactor": {"retention_enabled": True, "delete_request_store": "filesystem"},
        "limits_config": {
            "retention_period": RETENTION,
            "allow_structured_metadata": True,
            "otlp_config": {
                "resource_attributes": {
                    "ignore_defaults": True,
                    "attributes_config": [
                        {
                            "action": "index_label",
                            "attributes": ["service.name", "service.instance.id", "symphony.role"],
                        }
                    ],
                }
            },
        },
    }


def tempo() -> dict[str, Any]:
    """Tempo 3 in its monolithic mode, which needs no Kafka, with its files below /var/tempo."""
    return {
        "server": {
            "http_listen_address": HOST,
            "http_listen_port": TEMPO_PORT,
            "grpc_listen_address": HOST,
            "grpc_listen_port": 9096,
            "log_level": "warn",
        },
        "distributor": {
            "receivers": {
                "otlp": {"protocols": {"grpc": {"endpoint": f"{HOST}:{TEMPO_OTLP_PORT}"}}}
            }
        },
        "storage": {
            "trace": {
                "backend": "local",
                "wal": {"path": "/var/tempo/wal"},
                "local": {"path": "/var/tempo/blocks"},
            }
        },
        # The worker's key is the one that counts; without it blocks are kept for two weeks.
        "backend_worker": {"compaction": {"block_retention": RETENTION}},
        "usage_report": {"reporting_enabled": False},
    }
