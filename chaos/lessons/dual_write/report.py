"""The report of the lesson as Markdown and as one self-contained HTML page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"# Dual write: {report['scenario']} event, mode {report['mode']}",
        "",
        f"Inconsistency detected? **{'YES' if report['inconsistent'] else 'NO'}**",
        "",
        "## Timeline",
        "",
        *(
            f"{n}. {one['at_s']:.1f} s: {one['what']}"
            for n, one in enumerate(report["timeline"], 1)
        ),
        "",
        "## Results",
        "",
        "| check | expected | actual | result |",
        "|---|---|---|---|",
        *(
            f"| {one['name']} | {one['expected']} | {one['actual']} | {one['result']} |"
            for one in report["checks"]
        ),
        "",
        _counts(report),
        "",
        *_listed("Lost events (by order id)", report["lost"]),
        *_listed("Phantom events (by order id)", report["phantom"]),
        "## Root cause",
        "",
        report["root_cause"],
    ]
    if report["fix"]:
        lines += ["", "## Fix", "", report["fix"]]
    return "\n".join(lines) + "\n"


def _counts(report: Mapping[str, Any]) -> str:
    stored, published = report["orders_in_database"], report["events_in_kafka"]
    return f"Orders in the database: {stored}, events in Kafka: {published}."


def _listed(title: str, ids: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- `{one}`" for one in ids), ""] if ids else []


def html(report: Mapping[str, Any]) -> str:
    """The report as a page that loads nothing."""
    environment = Environment(
        loader=PackageLoader("chaos.lessons.dual_write", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(report=report)
