"""Generated reference pages: settings, topics, saga. `python -m app.reference docs/reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from app.domain.diagram import GENERATED, outcomes_page, saga_page
from app.roles import ROLES
from app.settings_model import Settings, extra_of
from app.topics import CATALOGUE, CONTROL_TOPICS, changelog_of


def settings_page() -> str:
    """Every setting with default, unit and meaning, grouped as in faust.ini."""
    lines = [
        "# Settings",
        "",
        GENERATED,
        "",
        (
            "Precedence: command line, `SYMPHONY_*`, `.env`, `faust.ini`, default. Unknown keys are"
            " errors. `symphony config show --origin` prints what applies and where it comes from."
        ),
    ]
    group = ""
    for name, field in Settings.model_fields.items():
        extra = extra_of(name)
        if extra["group"] != group:
            group = str(extra["group"])
            head = ["setting", "default", "production", "unit", "meaning"]
            lines += ["", f"## {group}", "", _row(head), _row(["---"] * len(head))]
        production = extra["production"]
        shown = "" if production is None else f"`{production}`"
        default = f"`{field.default}`" if str(field.default) else ""
        cells = [f"`{name}`", default, shown, str(extra["unit"]), field.description or ""]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def topics_page() -> str:
    """Every topic with its key, message types and configuration."""
    lines = [
        "# Topics",
        "",
        GENERATED,
        "",
        (
            "Created by `symphony topics apply`; all keyed topics have the same partition count,"
            " fixed at creation."
        ),
    ]
    head = ["topic", "key", "message types", "cleanup", "kept"]
    lines += ["", _row(head), _row(["---"] * len(head))]
    changelogs = [
        changelog_of("<namespace>", role.name, table)
        for role in ROLES.values()
        if not role.lab_only
        for table in role.tables
    ]
    for spec in [*CATALOGUE.values(), *changelogs]:
        types = ", ".join(f"`{body.ce_type()}`" for body in spec.bodies) or "as they came"
        if spec.name in CONTROL_TOPICS:
            types = "settings of running workers"
        elif spec.cleanup == "compact":
            types = "table entries"
        kept = "for ever" if spec.retention_s is None else f"{spec.retention_s // 86400} d"
        lines.append(_row([f"`{spec.name}`", spec.key, types, spec.cleanup, kept]))
    return "\n".join(lines) + "\n"


PAGES = {
    "outcomes.md": outcomes_page,
    "saga.md": saga_page,
    "settings.md": settings_page,
    "topics.md": topics_page,
}


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m app.reference DIRECTORY")
    for name, page in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(page(), encoding="utf-8")
