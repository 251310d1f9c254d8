"""Configuration of Prometheus and Alertmanager."""

from __future__ import annotations

from typing import Any

from chaos.observe.scale import Scale

JOB = "symphony"
ALERTMANAGER = "127.0.0.1:9093"


def prometheus(
    scale: Scale, *, targets: str, rules: str, alertmanager: str = ALERTMANAGER
) -> dict[str, Any]:
    """The configuration: `targets` is the lab's file_sd file, `rules` a pattern of rule files.

    The labels of a metric win over those of its target: what role `slo` counts of another role's
    group carries that role's name, and must not be called `exported_role`.
    """
    return {
        "global": {
            "scrape_interval": f"{scale.scrape_s}s",
            "scrape_timeout": f"{scale.scrape_s}s",
            "evaluation_interval": f"{scale.scrape_s}s",
        },
        "rule_files": [rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {
                "job_name": JOB,
                "honor_labels": True,
                "file_sd_configs": [{"files": [targets], "refresh_interval": f"{scale.scrape_s}s"}],
            }
        ],
    }


def alertmanager(*, group_wait_s: int = 10, webhook: str = "") -> dict[str, Any]:
    """Routes: pages at once and often, tickets together and seldom, all to `webhook` if given.

    Without one the receivers are empty: alerts are shown and nobody is called. A page silences the
    symptoms of its area about the same SLO or role, never what may be its cause.
    """
    return {
        "route": {
            "receiver": "nobody",
            "group_by": ["area", "slo", "role"],
            "group_wait": f"{group_wait_s}s",
            "group_interval": f"{5 * group_wait_s}s",
            "repeat_interval": "12h",
            "routes": [
                {
                    "receiver": "page",
                    "matchers": ['severity="page"'],
                    "group_wait": f"{max(1, group_wait_s // 5)}s",
                    "repeat_interval": "1h",
                },
                {"receiver": "ticket", "matchers": ['severity="ticket"']},
            ],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="page"'],
                "target_matchers": ['symptom="true"'],
                "equal": ["area", "slo", "role"],
            }
        ],
        "receivers": [{"name": "nobody"}, _receiver("page", webhook), _receiver("ticket", webhook)],
    }


def _receiver(name: str, webhook: str) -> dict[str, Any]:
    if not webhook:
        return {"name": name}
    return {"name": name, "webhook_configs": [{"url": webhook, "send_resolved": True}]}
