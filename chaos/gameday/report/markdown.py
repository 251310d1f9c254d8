"""The report as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.gameday.report import facts
from chaos.gameday.report.facts import Journal


def markdown(journal: Journal) -> str:
    """Return the whole report."""
    ours = facts.ours_of(journal)
    experiment = journal["experiment"]
    parts = [
        f"# {experiment['title']}",
        "",
        f"**{facts.sentence(journal)}**",
        "",
        str(experiment["description"]).strip(),
        "",
        f"- hypothesis: {ours['hypothesis']}",
        f"- scenario: {ours['scenario']}",
        f"- run {ours['run_id']}, began {ours['began']}, seed {ours['knobs']['seed']}",
        f"- load: {facts.load_sentence(journal)}",
        f"- guard: {facts.guard_sentence(journal)}",
        f"- audit: {facts.audit_sentence(journal)}",
        *([f"- alert exam: {told}"] if (told := facts.exam_sentence(journal)) else []),
        *([f"- after the last phase: {told}"] if (told := facts.ending_sentence(journal)) else []),
        f"- again: `{ours['repeat']}`",
        "",
        "## What was broken",
        "",
        *table(
            facts.FAULT_HEAD,
            facts.fault_rows(journal),
        ),
        "",
        *_exam(journal),
        "## Steady state",
        "",
        *table(("probe", "tolerated", "before", "after"), facts.probe_rows(journal)),
        "",
        *([told, ""] if (told := facts.rollback_sentence(journal)) else []),
        "## What the client saw",
        "",
        *table(
            ("", "accepted", "not accepted", "p95", "most under way"), facts.window_rows(journal)
        ),
        "",
    ]
    return "\n".join(parts)


def _exam(journal: Journal) -> list[str]:
    rows = facts.exam_rows(journal)
    head = ["## Alert exam", "", facts.EXAM_LEGEND, ""]
    return [*head, *table(facts.EXAM_HEAD, rows), ""] if rows else []


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [
        _row(head),
        "|" + "---|" * len(head),
        *(_row(row) for row in rows),
    ]


def _row(cells: Sequence[str]) -> str:
    clean = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(clean)} |"
