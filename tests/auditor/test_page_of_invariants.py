"""The documentation lists the invariants as they are."""

from __future__ import annotations

from pathlib import Path

from chaos.auditor.invariants import CATALOGUE
from tests.auditor.planted import DEFECTS

PAGE = Path(__file__).parents[2] / "docs/audit.md"


def test_the_page_lists_every_invariant_with_its_books() -> None:
    """Row by row, in order; the dot marks those that may be idle."""
    rows = [
        f"| {one.id}{' ·' if one.optional else ''} | {one.title} |"
        f" {one.kind.value}{', at rest' if one.at_rest else ''} |"
        f" {', '.join(book.value for book in one.needs)} |"
        for one in CATALOGUE
    ]
    assert "\n".join(rows) in PAGE.read_text()


def test_the_page_counts_the_planted_defects() -> None:
    """The figure is the length of the list."""
    assert f"{len(DEFECTS)} defects are planted" in PAGE.read_text()
