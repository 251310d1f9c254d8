"""The verdict as text for people and as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos.reconcile.verdict import EXIT_CODES, Check, State, Verdict

WITNESSES_SHOWN = 5
LETTERS_SHOWN = 5


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Return rows as aligned columns; a cell that is a number is aligned right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if cell.replace(",", "").isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        )
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def document(verdict: Verdict, quiet: str) -> dict[str, Any]:
    """Return the verdict as plain data; `quiet` says why the system did not come to rest."""
    return {
        "result": verdict.result,
        "exit_code": EXIT_CODES[verdict.result],
        "orders": verdict.orders,
        "unrest": quiet,
        "checks": [
            {
                "name": check.name,
                "title": check.title,
                "state": check.state.value,
                "examined": check.examined,
                "violations": check.violations,
                "note": check.note,
                "missing": check.missing,
                "witnesses": [one._asdict() for one in check.witnesses],
            }
            for check in verdict.checks
        ],
        **verdict.facts,
    }


def text(verdict: Verdict) -> str:
    """Return the table of checks, the witnesses of what is violated, the dead letters."""
    rows = [("what must hold", "examined", "result", "")]
    rows += [(check.title, f"{check.examined:,}", _word(check), check.note or check.missing)
             for check in verdict.checks]  # fmt: skip
    parts = [columns(rows)]
    for check in verdict.checks:
        if check.state is State.VIOLATED:
            parts.append(_witnesses(check))
    if verdict.facts.get("dead_letters"):
        parts.append(_letters(verdict))
    return "\n".join(parts)


def sentence(verdict: Verdict) -> str:
    """Return the verdict in one line."""
    broken = [check for check in verdict.checks if check.state is State.VIOLATED]
    if verdict.result == "violated":
        count = sum(check.violations for check in broken)
        return f"VIOLATED: {count} findings in {len(broken)} of {len(verdict.checks)} checks"
    if verdict.result == "unknown":
        if not verdict.orders and not any(check.missing for check in verdict.checks):
            return "UNKNOWN: there is no order to examine"
        missing = sorted({check.missing for check in verdict.checks if check.missing})
        return f"UNKNOWN: {'; '.join(missing)}"
    return f"HOLDS: {verdict.orders:,} orders, at-least-once delivery, effects once, audited"


def _word(check: Check) -> str:
    if check.state is State.VIOLATED:
        return f"VIOLATED x{check.violations}"
    return check.state.value


def _witnesses(check: Check) -> str:
    lines = [f"  violated: {check.title}"]
    lines += [f"    {one.item}: {one.wrong}" for one in check.witnesses[:WITNESSES_SHOWN]]
    more = check.violations - WITNESSES_SHOWN
    return "\n".join([*lines, f"    and {more} more"] if more > 0 else lines)


def _letters(verdict: Verdict) -> str:
    letters = verdict.facts["dead_letter_list"][:LETTERS_SHOWN]
    lines = [f"  {verdict.facts['dead_letters']} dead letters, kept for an operator:"]
    lines += [f"    {one['topic']}[{one['partition']}]@{one['offset']}: {one['error']}"
              for one in letters]  # fmt: skip
    return "\n".join(lines)
