"""The verdict as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

WITNESSES_SHOWN = 5
TIMELINES_SHOWN = 1
LETTERS_SHOWN = 5

Document = Mapping[str, Any]


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


def text(document: Document) -> str:
    """Return the table of invariants, the witnesses of what is violated, the dead letters."""
    rows = [("", "what must hold", "examined", "result")]
    rows += [
        (one["id"], one["title"], f"{one['examined']:,}", _word(one))
        for one in document["invariants"]
    ]
    parts = [columns(rows)]
    parts += [_witnesses(one) for one in document["invariants"] if one["violations"]]
    if document["waivers"]:
        parts.append(_waivers(document))
    if document["dead_letters"]:
        parts.append(_letters(document))
    return "\n".join(parts)


def sentence(document: Document) -> str:
    """Return the verdict in one line."""
    broken = [one for one in document["invariants"] if one["violations"]]
    if document["result"] == "violated":
        found = [f"{one['id']} x{one['violations']:,}" for one in broken]
        if document["unrest"]:
            found.append(f"no rest ({document['unrest']})")
        return f"VIOLATED: {', '.join(found)}"
    if document["result"] == "unknown":
        return f"UNKNOWN: {'; '.join(doubts(document))}"
    told = f"{document['orders']:,} orders"
    if document["faults"]:
        told += f" under {document['faults']:,} fault{'s' * (document['faults'] != 1)}"
    if document["waivers"]:
        count = len(document["waivers"])
        told += f", {count:,} command{'s' * (count != 1)} given up by operators"
    return f"HOLDS: {told}: at-least-once delivery, effects once, audited"


def doubts(document: Document) -> list[str]:
    """Why invariants are unknown, each reason once."""
    found: dict[str, None] = {}
    for one in document["invariants"]:
        if one["state"] == "unknown":
            found[one["missing"] or f"{one['id']}: there was nothing to examine"] = None
    return list(found)


def _word(finding: Document) -> str:
    if finding["violations"]:
        return f"VIOLATED x{finding['violations']:,}"
    if finding["missing"]:
        return f"unknown: {finding['missing']}"
    return str(finding["state"])


def _witnesses(finding: Document) -> str:
    lines = [f"\n  {finding['id']} violated: {finding['title']}"]
    told = 0
    for one in finding["witnesses"][:WITNESSES_SHOWN]:
        lines.append(f"    {one['item']}: {one['wrong']}")
        if one["timeline"] and told < TIMELINES_SHOWN:
            told += 1
            lines += [f"      {moment(row)}" for row in one["timeline"]]
    more = finding["violations"] - WITNESSES_SHOWN
    return "\n".join([*lines, f"    and {more:,} more"] if more > 0 else lines)


def moment(row: Document) -> str:
    """Return one line of a timeline."""
    return f"{clock(row['at_s'])}  {row['book']:<9}  {row['what']}"


def clock(at_s: float) -> str:
    """Return a time of day in UTC with milliseconds, blanks when it is not known."""
    if not at_s:
        return " " * 12
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S.%f")[:-3]


def _waivers(document: Document) -> str:
    """What an operator excused, and who answers for it."""
    lines = ["\n  waived by operators:"]
    lines += [
        f"    {one['skipped']} of order {one['order']}, by {one['who']}: {one['why']}"
        for one in document["waivers"]
    ]
    return "\n".join(lines)


def _letters(document: Document) -> str:
    letters = document["dead_letter_list"][:LETTERS_SHOWN]
    lines = [f"\n  {document['dead_letters']:,} dead letters, kept for an operator:"]
    lines += [
        f"    {one['topic']}[{one['partition']}]@{one['offset']} of {one['consumer']}:"
        f" {one['error']}"
        for one in letters
    ]
    return "\n".join(lines)
